"""Trying a rule on made-up facts: the same path as a live detection or event, with an empty memory."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from pydantic import JsonValue

from core.batch import Batch
from core.decide.explain import detection_id, explain, facts_of
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.rules.acting import Actor, Occasion
from core.rules.matching import RuleIndex
from schemas.commands import Command
from schemas.definitions import OnBand, OnEvent, OnStage, OnThreshold, OnViral, Product, Rule, Threshold, Trigger
from schemas.detections import DETECTION, Detection
from schemas.envelope import subject
from schemas.registers import WINDOWS, Signal

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
    return a_detection_of(rule.trigger, given)


def a_detection_of(trigger: Trigger, given: Mapping[str, JsonValue]) -> Detection:
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
        case OnEvent():
            raise ValueError("an event rule has no detection")
    fields |= {k: v for k, v in given.items() if k != "active_users"}
    fields.setdefault(
        "id",
        detection_id(str(fields["kind"]), TENANT, PRODUCT, str(fields["subject"]), AT, str(given.get("threshold", ""))),
    )
    return DETECTION.validate_python(fields)


def _by_event(rule: Rule, trigger: OnEvent, given: Mapping[str, JsonValue], catalogue: Catalogue) -> list[Effect]:
    name = given.get(trigger.subject, "someone")
    signal = Signal(
        tenant=TENANT,
        product=PRODUCT,
        subject=f"{trigger.subject}:{name}",
        kind="event",
        cause="given",
        rules=[rule.name],
        at=AT,
        data=dict(given),
    )
    stamps = np.array([AT], np.int64)
    batch = Batch("signals", 0, [msgspec.json.encode(signal)], np.zeros(1, np.int64), stamps, 1, _NoKeys())
    return list(SignalsTask(0, 1, catalogue).step(batch))


def _command(effects: list[Effect]) -> Command | None:
    for effect in effects:
        if isinstance(effect, Emit) and effect.topic.startswith("commands.") and effect.value is not None:
            return Command.model_validate_json(effect.value)
    return None
