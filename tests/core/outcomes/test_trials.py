"""Trials from registers: figures before and after a command, whatever the batches; days; conversions that METER selects."""

from __future__ import annotations

import json
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Emit
from core.meter.task import MeterTask
from core.outcomes.trials import name_of
from schemas.definitions import CommandTemplate, Rule, Threshold
from schemas.outcomes import Figure
from schemas.parts import Day, Pair, Part, decode_part
from schemas.registers import Clock, Patch, Registers, encode
from tests.helpers.words import a_batch

BEGIN = 1_767_225_600_000
STEP, MINUTE, DAY = 10_000, 60_000, 86_400_000
COLUMNS = ["requests", "errors", "satisfied", "tolerating", "latency_sum_us"]


def a_catalogue(**more: object) -> Catalogue:
    catalogue = Catalogue()
    catalogue.put(
        Threshold.model_validate(
            {"name": "errors", "metric": "error_rate", "op": ">", "limit": 0.5, "clear_limit": 0.4}
        )
    )
    rule: dict[str, object] = {
        "name": "calm",
        "id": "calm",
        "trigger": {"kind": "threshold", "threshold": "errors"},
        "command": CommandTemplate(type="engineering.load.reduce", title="t", text="t"),
        "outcome": {
            "metric": {"kind": "figure", "metric": "error_rate", "window": "5m"},
            "within_s": 600,
            "direction": "down",
        },
        **more,
    }
    catalogue.put(Rule.model_validate(rule))
    weekly = CommandTemplate(type="executive.outcome.report", title="t", text="t")
    catalogue.put(Rule.model_validate({"name": "w", "id": "w", "trigger": {"kind": "report"}, "command": weekly}))
    return catalogue


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def told(figures: list[tuple[int, int, int]], last: int) -> list[bytes]:
    """Registers of (end, requests, errors) of the 5m window, then a clock of both sources."""
    rows = [
        encode(
            Registers(
                source="events.performance",
                partition=0,
                tenant="acme",
                product="shop",
                names=["*"],
                columns=COLUMNS,
                patches=[Patch("5m", end, 0, numbers(0), [numbers(v) for v in (n, bad, n, 0, 0)])],
                clock=end,
                act=True,
            )
        )
        for end, n, bad in figures
    ]
    for source in ("events.usage", "events.performance"):
        rows.append(encode(Clock(source=source, partition=0, at=last, replaying=False)))
    return rows


def fold(rows: list[bytes], cuts: list[int], catalogue: Catalogue, restart: bool = False) -> list[Part]:
    """The parts that come of it."""
    task, state, found = RegistersTask(0, 1, catalogue), {}, []
    bounds = [0, *sorted({c % len(rows) for c in cuts}), len(rows)]
    for a, b in pairwise(bounds):
        batch = a_batch("meter.registers", rows[a:b], first=a, at=BEGIN)
        found += [e for e in task.step(batch) if isinstance(e, Emit) and e.topic == "outcome.parts"]
        if restart:
            for key, value in task.drain():
                state[key] = value
            task = RegistersTask(0, 1, catalogue)
            for key, value in state.items():
                task.load(key, value)
            task.loaded()
    assert {e.key for e in found} <= {b"acme|shop"}
    return [decode_part(e.value or b"") for e in found]


CRISIS = [(BEGIN + STEP, 10, 8), (BEGIN + 4 * MINUTE, 10, 6), (BEGIN + 9 * MINUTE, 10, 1), (BEGIN + 30 * MINUTE, 10, 9)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 99), max_size=4), st.booleans())
def test_before_and_after_whatever_the_cuts(cuts: list[int], restart: bool) -> None:
    pairs = [p for p in fold(told(CRISIS, BEGIN + 35 * MINUTE), cuts, a_catalogue(), restart) if isinstance(p, Pair)]
    assert [(p.end, p.rule, p.subject, p.before, p.after) for p in pairs] == [
        (BEGIN + 10 * MINUTE + STEP, "calm", "product:shop", 0.8, 0.1)
    ]


def test_what_is_not_commanded_is_no_trial() -> None:
    catalogue = a_catalogue(condition={"kind": "compare", "field": "value", "op": ">", "value": 0.85})
    pairs = [p for p in fold(told(CRISIS, BEGIN + 60 * MINUTE), [], catalogue) if isinstance(p, Pair)]
    assert [p.before for p in pairs] == [0.9], "only the second crossing is high enough"


def test_one_trial_of_a_subject_at_a_time() -> None:
    shaken = [(BEGIN + STEP, 10, 8), (BEGIN + MINUTE, 10, 1), (BEGIN + 2 * MINUTE, 10, 7), (BEGIN + 20 * MINUTE, 10, 7)]
    pairs = [p for p in fold(told(shaken, BEGIN + 60 * MINUTE), [], a_catalogue()) if isinstance(p, Pair)]
    assert [(p.end - BEGIN, p.before) for p in pairs] == [(10 * MINUTE + STEP, 0.8)]


def test_days_are_told_where_a_report_is_wanted() -> None:
    found = [p for p in fold(told(CRISIS, BEGIN + 2 * DAY + 5), [], a_catalogue()) if isinstance(p, Day)]
    assert [p.end for p in found] == [BEGIN + DAY, BEGIN + 2 * DAY]
    assert all(p.figures["active_users"] == 0 for p in found)
    without = Catalogue()
    assert not fold(told(CRISIS, BEGIN + 2 * DAY + 5), [], without)


@pytest.mark.parametrize(
    ("figure", "subject", "name"),
    [
        ({"metric": "adoption_rate"}, "feature:export", "export"),
        ({"metric": "error_rate"}, "feature:export", "feature:export"),
        ({"metric": "error_rate"}, "service:api", "service:api"),
        ({"metric": "error_rate"}, "product:shop", "*"),
        ({"metric": "health_score"}, "service:api", "*"),
        ({"metric": "error_rate", "of": "service:web"}, "product:shop", "service:web"),
    ],
)
def test_whose_figure_it_is(figure: dict[str, object], subject: str, name: str) -> None:
    assert name_of(Figure.model_validate(figure), subject) == name


def test_meter_selects_the_conversions_of_measured_rules() -> None:
    catalogue = Catalogue()
    event = {"kind": "event", "topic": "events.usage", "where": 'type == "user.signed_up"'}
    measure = {"metric": {"kind": "conversion", "where": 'type == "purchase.completed"'}, "within_s": 60}
    command = CommandTemplate(type="marketing.email.send", title="t", text="t")
    catalogue.put(
        Rule.model_validate({"name": "r", "id": "r", "trigger": event, "command": command, "outcome": measure})
    )
    rows: list[bytes | None] = [
        json.dumps(
            {
                "id": f"e{i}",
                "tenant": "acme",
                "product": "shop",
                "type": t,
                "user": "u",
                "feature": "f",
                "occurred_at": BEGIN,
            }
        ).encode()
        for i, t in enumerate(["user.signed_up", "purchase.completed", "feature.used"])
    ]
    batch = a_batch("events.usage", rows, at=BEGIN)
    sent = [e for e in MeterTask(0, 1, catalogue).step(batch) if isinstance(e, Emit) and e.topic == "signals"]
    found = [json.loads(e.value or b"") for e in sent]
    assert [(s["data"]["type"], s["rules"], s["subject"]) for s in found] == [
        ("user.signed_up", ["r"], "user:u"),
        ("purchase.completed", ["r"], "user:u"),
    ]
