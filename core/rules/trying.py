"""Trying a rule on made-up facts: the same path as a live detection or event, with an empty memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from pydantic import JsonValue

from core.batch import Batch
from core.decide.explain import detection_id, explain, facts_of
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.people.asked import ROOTS
from core.people.people import Edge, People
from core.rules.acting import Actor, Occasion
from core.rules.matching import RuleIndex
from core.rules.waiting import remembers
from schemas.commands import Command
from schemas.definitions import (
    OnAbsence,
    OnAnomaly,
    OnBand,
    OnCount,
    OnEvent,
    OnInactivity,
    OnPrediction,
    OnReport,
    OnSchedule,
    OnSegment,
    OnSequence,
    OnStage,
    OnThreshold,
    OnVerdict,
    OnViral,
    Product,
    Rule,
    Threshold,
    Trigger,
)
from schemas.detections import DETECTION, Detection
from schemas.envelope import subject
from schemas.registers import WINDOWS, Signal
from schemas.triggers import Remembering, happenings

TENANT, PRODUCT, FEATURE = "acme", "shop", "export"
AT = 1_767_225_600_000


class _NoKeys:
    def key(self, row: int) -> bytes | None:
        """No row has one."""
        return None


def try_rule(
    rule: Rule, given: Mapping[str, JsonValue], product: Product | None = None, threshold: Threshold | None = None
) -> Command | None:
    """The command that the rule gives on these facts, or None.

    `given` are fields of the detection (or event) that matter; the others are filled in. Raises `pydantic.ValidationError` where
    they make no such detection, and `ValueError` where the match failed to become a command.
    """
    catalogue = Catalogue()
    catalogue.put(rule)
    if isinstance(rule.trigger, OnEvent):
        return _command(_by_event(rule, rule.trigger, given, catalogue))
    if isinstance(rule.trigger, OnSegment):
        return _command(_by_segment(rule.trigger, given, catalogue))
    remembering = remembers(rule.trigger)
    if remembering is not None:
        return _command(_by_memory(rule, remembering, given, catalogue))
    found = a_detection(rule, given)
    rules = RuleIndex(catalogue).met_by(found)
    settings = product or Product(tenant=TENANT, name=PRODUCT)
    active = given.get("active_users", 1000)
    users = active if isinstance(active, int) else 1000
    occasion = Occasion(
        tenant=found.tenant,
        product=found.product,
        subject=found.subject,
        cause=found.id,
        at=found.at,
        act=found.act,
        facts=facts_of(found.model_dump(), users),
        case=explain(found, settings, users, threshold),
        broker_time=found.at,
    )
    actor = Actor(catalogue, "trying")
    effects = actor.meet(rules, occasion)
    if actor.books.failed:
        raise ValueError(f"rule {rule.name} matched, but a template failed on these facts; see its titles and payload")
    return _command(effects)


def a_detection(rule: Rule, given: Mapping[str, JsonValue]) -> Detection:
    """A whole detection of the rule's kind from the fields that matter."""
    return a_detection_of(rule.trigger, given, rule.name)


def a_detection_of(trigger: Trigger, given: Mapping[str, JsonValue], rule: str = "") -> Detection:
    """A whole detection that meets the trigger, from the fields that matter. Raises `ValueError` where it waits for none."""
    window = str(given.get("window", {"stage": "7d", "viral": "7d", "band": "1d"}.get(trigger.kind, "5m")))
    span: dict[str, JsonValue] = {"window": window, "window_start": AT - WINDOWS[window][0], "window_end": AT}
    fields: dict[str, JsonValue] = {"tenant": TENANT, "product": PRODUCT, "at": AT, **span}
    users, target = given.get("users", 50), given.get("target_users", 100)
    share = users / target if isinstance(users, int) and isinstance(target, int) and target else None
    adoption: dict[str, JsonValue] = {
        "feature": FEATURE,
        "subject": subject("feature", FEATURE),
        "users": users,
        "target_users": target,
        "rate": share,
        "organic_share": 0.9,
    }
    match trigger:
        case OnStage(stages=stages):
            fields |= {"kind": "stage_entered", "stage": stages[0], "previous": "no_data", **adoption}
        case OnViral():
            fields |= {"kind": "viral_entered", **adoption}
        case OnBand(bands=bands):
            scores = {"critical": 20.0, "declining": 50.0, "stable": 70.0, "optimal": 90.0, "no_data": 0.0}
            score = scores[bands[0]]
            components = dict.fromkeys(("reliability", "responsiveness", "adoption", "engagement", "trend"), score)
            fields |= {"kind": "band_entered", "subject": subject("product", PRODUCT), "band": bands[0]}
            fields |= {"previous": "no_data", "score": score, "components": {**components}, "weakest": "reliability"}
        case OnThreshold(threshold=name, edge=edge):
            fields |= {"kind": f"threshold_{edge}", "subject": subject("product", PRODUCT), "threshold": name}
            fields |= {"metric": "error_rate", "value": 0.2, "limit": 0.05}
            fields |= {"since": AT - 60_000} if edge == "crossed" else {"fired_at": AT - 60_000}
        case OnAnomaly(detector=name, edge=edge):
            fields |= {
                "kind": "anomaly" if edge == "began" else "anomaly_ended",
                "subject": subject("product", PRODUCT),
            }
            fields |= {"detector": name, "algorithm": "level", "metric": "events", "window": "5m"}
            fields |= {"value": 900.0, "expected": 300.0, "low": 200.0, "high": 400.0, "window_start": AT - 300_000}
            if edge == "began":
                fields |= {"score": 4.0, "limit": 3.0, "direction": "up", "since": AT}
            else:
                fields |= {"fired_at": AT - 3_600_000}
        case OnPrediction(prediction=name, edge=edge):
            fields |= {"kind": f"prediction_{edge}", "subject": subject("user", str(given.get("user", "someone")))}
            fields |= {
                "prediction": name,
                "model": "inactivity",
                "model_version": "inactivity 1, fitted 2026-01-01",
                "feature": None,
            }
            fields |= {
                "horizon_days": 7,
                "probability": 0.8,
                "limit": 0.7,
                "window": "28d",
                "window_start": AT - WINDOWS["28d"][0],
            }
            fields |= {
                "because": "last seen 9 days ago, active on 3 of the last 21 days",
                "age_days": 21.0,
                "gap_days": 9.0,
            }
            fields |= {
                "active_days": 3.0,
                "reasons": {"age_days": 0.1, "gap_days": 1.5, "active_days": 0.4},
                "auc": 0.8,
            }
            fields |= {"measured": "outcomes", "measured_at": AT - 7 * 86_400_000, "brier": 0.1, "base_brier": 0.2}
            fields |= {"calibration_error": 0.02, "measured_users": 1000}
            fields |= {"since": AT} if edge == "crossed" else {"fired_at": AT - 86_400_000}
            given = {k: v for k, v in given.items() if k != "user"}
        case OnSchedule(zone=zone):
            fields |= {"kind": "schedule_due", "subject": subject("product", PRODUCT), "schedule": rule}
            fields |= {"window": "1d", "due": "2026-01-01 00:00", "zone": zone, "late": False, "score": None}
        case OnVerdict(verdicts=verdicts):
            fields |= {"kind": "verdict_reached", "subject": subject("product", PRODUCT), "rule": "some-rule"}
            fields |= {"verdict": verdicts[0], "previous": "no_effect_yet", "metric": "conversion", "direction": "up"}
            sign = -1 if verdicts[0] == "harmful" else 1
            fields |= {"uplift": 0.05 * sign, "low": 0.05 * sign - 0.03, "high": 0.05 * sign + 0.03, "alpha": 0.05}
            fields |= {"treated": 900, "held": 100, "command_type": "marketing.email.send", "pauses": sign < 0}
            fields |= {"window": "604800s"}
        case OnReport(every=every):
            fields |= {"kind": "outcome_report", "subject": subject("product", PRODUCT), "every": every, "window": "7d"}
            fields |= {"ranked": [], "factors": [], "working": 0, "harmful": 0, "undecided": 0}
        case OnEvent() | OnSegment() | OnCount() | OnSequence() | OnAbsence() | OnInactivity():
            raise ValueError("a rule that waits for events has no detection")
    fields |= {k: v for k, v in given.items() if k != "active_users"}
    fields.setdefault(
        "id",
        detection_id(str(fields["kind"]), TENANT, PRODUCT, str(fields["subject"]), AT, str(given.get("threshold", ""))),
    )
    return DETECTION.validate_python(fields)


def _by_event(rule: Rule, trigger: OnEvent, given: Mapping[str, JsonValue], catalogue: Catalogue) -> list[Effect]:
    return _step(_task(given, catalogue), [_signal(rule, trigger.subject, given, AT, "given"), _clock(AT + 1)])


class _Given(People):
    """Profiles that are what the example says."""

    def __init__(self, catalogue: Catalogue, given: Mapping[str, JsonValue]) -> None:
        super().__init__(catalogue)
        self._given = {name: given[name] for name in (*ROOTS, "segments") if isinstance(given.get(name), (dict, list))}

    def facts(self, tenant: str, product: str, subject: str) -> dict[str, Any]:
        """What is given, over an empty profile."""
        found = super().facts(tenant, product, subject)
        for name, value in self._given.items():
            before = found.get(name)
            found[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
        return found


def _task(given: Mapping[str, JsonValue], catalogue: Catalogue) -> SignalsTask:
    task = SignalsTask(0, 1, catalogue)
    task.people = _Given(catalogue, given)
    return task


def _by_segment(trigger: OnSegment, given: Mapping[str, JsonValue], catalogue: Catalogue) -> list[Effect]:
    about = str(given.get("subject", "user:someone"))
    edge = Edge(TENANT, PRODUCT, about, trigger.segment, trigger.edge, AT, "given", AT, act=True)
    return _task(given, catalogue).edge(edge)


def _clock(at: int) -> Signal:
    return Signal(tenant=TENANT, product=PRODUCT, subject="", kind="clock", cause="", rules=[], at=at, data={})


def _by_memory(rule: Rule, trigger: Remembering, given: Mapping[str, JsonValue], catalogue: Catalogue) -> list[Effect]:
    """The event that is given, as often as the trigger asks for and as whichever step comes next; then nothing more happens."""
    task = _task(given, catalogue)
    asked = happenings(trigger) if isinstance(trigger, OnSequence) else [given] * getattr(trigger, "times", 1)
    rows: list[Signal] = []
    for i in range(len(asked)):
        row = dict(given)
        if isinstance(trigger, OnSequence) and trigger.steps[i].topic == "events.usage" and i < len(asked) - 1:
            row["type"] = "feature.used"
        topic = happenings(trigger)[min(i, len(happenings(trigger)) - 1)].topic
        rows.append(_signal(rule, trigger.subject, row, AT + i, f"given-{i}", topic))
    end = AT + 1 + 1000 * max(getattr(trigger, "within_s", 0), getattr(trigger, "after_s", 0)) + len(rows)
    return _step(task, [*rows, _clock(end)])


def _signal(
    rule: Rule, kind: str, given: Mapping[str, JsonValue], at: int, cause: str, topic: str | None = None
) -> Signal:
    name = given.get(kind, "someone")
    return Signal(
        tenant=TENANT,
        product=PRODUCT,
        subject=f"{kind}:{name}",
        kind="event",
        cause=cause,
        rules=[rule.name],
        at=at,
        data=dict(given),
        topic=topic,
    )


def _step(task: SignalsTask, signals: list[Signal]) -> list[Effect]:
    values: list[bytes | None] = [msgspec.json.encode(s) for s in signals]
    n = len(values)
    return list(task.step(Batch("signals", 0, values, np.arange(n), np.full(n, AT), n, _NoKeys())))


def _command(effects: list[Effect]) -> Command | None:
    for effect in effects:
        if isinstance(effect, Emit) and effect.topic.startswith("commands.") and effect.value is not None:
            return Command.model_validate_json(effect.value)
    return None
