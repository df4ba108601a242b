"""The doors of what acts: conditions as text, triggers that remember or recur, workflows and their runs, detectors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import msgspec
import orjson
from pydantic import ValidationError

from core.definitions import Catalogue
from core.detect.registry import DETECTORS
from core.rules.conditions import flatten, holds
from core.rules.lint import rule_findings
from core.rules.patterns import Entry, Seen, advance, wake
from core.rules.waiting import remembers, steps_met
from core.workflows.desk import Desk, Occurrence
from core.workflows.problems import problems
from core.workflows.shelf import Shelf
from schemas.cel import parse
from schemas.celmeasure import CelError
from schemas.celtext import to_cel
from schemas.definitions import Detector, OnEvent, OnSchedule, Rule, Workflow
from schemas.limits import MAX_TIMES
from tests.core.meter.logs import T0
from tests.fuzz.mutate import NASTY, damaged, encoded, spoiled
from tests.fuzz.samples import EVENT, Outcome, all_definitions
from tests.workflows.world import Maker

# --- conditions as text -------------------------------------------------------------------------------------------------

_CEL = (
    'feature == "export" && properties.seats > 5 && !(properties.plan in ["free", "trial"])',
    'has(account) || title.startsWith("internal-") || "beta" in tags',
    'during({"weekdays": ["mon", "fri"], "start": "09:00", "end": "17:00", "zone": "Europe/Berlin"})',
    'facts["any name at all"] != null',
    "latency_ms >= 1.5e3 || n < -3",
    "a ? b : c", "[1, 2].all(x, x > 0)", "true", "!false", "size(x) == 1u",
)  # fmt: skip
_PIECES = (
    "&&", "||", "!", "(", ")", "[", "]", "{", "}", "==", "!=", "<", ">=", " in ", ".", ",", ":", "?", "-", "+", '"', "'", "\\", "\n",
    "//", "has(", "during(", "facts[", ".startsWith(", ".contains(", "null", "true", "1e999", "9" * 30, "0x", "1u", "b'x'", 'r"x"',
    '"""', "\u2028", "é", "\0", "a.b.c", '"\\ud800"', '"\\U00110000"', "in", "for", "_",
)  # fmt: skip


def _text(random: Random) -> str:
    text = random.choice(_CEL)
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.randrange(len(text) + 1)
        match random.randrange(4):
            case 0:
                text = text[:at] + random.choice(_PIECES) + text[at:]
            case 1:
                text = text[:at] + text[at + random.choice((1, 2, 5)) :]
            case 2:
                text = f"{text}{random.choice((' && ', ' || '))}{random.choice(_CEL)}"
            case _:
                text = spoiled(random, text.encode("utf-8", "replace"), 1).decode("utf-8", "replace")
    if random.random() < 0.02:
        text = random.choice(("(", "!", "[", "-", "a.", "!(")) * random.choice((5, 30, 3_000)) + text
    if random.random() < 0.01:
        text = " && ".join([text] * random.choice((50, 600)))
    return text


def cel(random: Random, held: list[Any]) -> Outcome:
    """A text that means a condition, means the same when it is written back; what is refused says where."""
    text = _text(random)
    held.append(text)
    try:
        condition = parse(text)
    except CelError as error:
        assert error.line >= 1 and error.column >= 1 and str(error)
        return {"refused": 1}
    assert parse(to_cel(condition)) == condition
    try:
        bounded = OnEvent(topic="events.usage", where=condition).where
    except ValidationError:
        return {"refused": 1}
    facts = damaged(random, {"feature": "export", "properties": {"seats": 6, "plan": "pro"}, "tags": ["beta"]}, times=2)
    flat = flatten(facts if isinstance(facts, dict) else {})
    assert bounded is not None and holds(bounded, flat) is holds(bounded, flat)
    return {"accepted": 1}


# --- triggers -----------------------------------------------------------------------------------------------------------

_WHERE = {"kind": "compare", "field": "feature", "op": "==", "value": "search"}
_TRIGGERS: tuple[dict[str, Any], ...] = (
    {"kind": "count", "topic": "events.usage", "where": _WHERE, "times": 3, "within_s": 600},
    {"kind": "sequence", "steps": [{"topic": "events.usage", "where": _WHERE}, {"topic": "events.usage"}], "within_s": 60},
    {"kind": "absence", "first": {"topic": "events.usage"}, "then": {"topic": "events.performance"}, "within_s": 60},
    {"kind": "inactivity", "topic": "events.usage", "after_s": 86_400},
    {"kind": "schedule", "cron": "0 9 * * 1-5", "zone": "Europe/Berlin"},
    {"kind": "schedule", "rrule": "FREQ=MONTHLY;BYDAY=-1FR;COUNT=5", "start": "2026-01-31T09:00", "zone": "America/New_York"},
    {"kind": "event", "topic": "events.usage", "where": _WHERE},
    {"kind": "anomaly"},
)  # fmt: skip
_TIMES = (
    "*/7 * * * *", "0 0 29 2 *", "0 0 31 2 *", "61 * * * *", "@hourly", "* * * * * *", "0 0 * * 7", "0-0/0 * * * *",
    "1,2,3 1-5/2 L * *",
    "FREQ=DAILY", "FREQ=SECONDLY", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;UNTIL=20200101T000000Z", "FREQ=DAILY;COUNT=0",
    "FREQ=WEEKLY;INTERVAL=999999999", "FREQ=DAILY;BYSETPOS=400", "RRULE:FREQ=DAILY", "FREQ=DAILY\nEXDATE:20200101",
    "FREQ=MONTHLY;BYDAY=99MO",
    "9999-12-31T23:59", "0001-01-01T00:00", "Europe/Berlin", "Mars/Base", "../etc/passwd", "Etc/GMT+12",
)  # fmt: skip


def triggers(random: Random, held: list[Any]) -> Outcome:
    """Rules on triggers that know time: due times in order, and a bounded memory of what a subject did; or refused."""
    trigger = damaged(random, random.choice(_TRIGGERS), random.choice((0, 1, 1, 2)))
    if isinstance(trigger, dict) and trigger.get("kind") == "schedule" and random.random() < 0.5:
        trigger[random.choice(("cron", "rrule", "start", "zone"))] = random.choice(_TIMES)
    held.append(trigger)
    command = {"type": "product.a.b", "title": "t", "text": "{{ user }}"}
    try:
        rule = Rule.model_validate({"tenant": "acme", "name": "r", "id": "r", "trigger": trigger, "command": command})
    except ValidationError:
        return {"refused": 1}
    list(rule_findings(rule))
    if isinstance(rule.trigger, OnSchedule):
        at = random.choice((T0, 0, 951_782_400_000, 4_102_444_800_000, 253_402_300_799_000))
        after, before = rule.trigger.after(at), rule.trigger.before(at)
        assert (after is None or after > at) and (before is None or before < at)
        return {"accepted": 1}
    remembering = remembers(rule.trigger)
    if remembering is None:
        return {"accepted": 1}
    entry: Entry | None = None
    at = T0
    for number in range(random.choice((3, 30))):
        at += random.choice((0, 1, 1_000, 60_000, 86_400_000))
        if entry is not None and entry.due <= at:
            fired = wake(remembering, entry)
            assert fired is None or fired.first_at <= fired.at <= at
            entry = None
        flat = flatten(event) if isinstance(event := damaged(random, EVENT, 1), dict) else {}
        steps = steps_met(remembering, f"{remembering.subject}:u", flat)
        if steps:
            entry, fired = advance(remembering, entry, Seen(at, f"e{number}", flat, True, None), steps)
            assert fired is None or fired.first_at <= fired.at == at
        assert entry is None or len(entry.times) <= MAX_TIMES
    return {"accepted": 1}


# --- workflows ----------------------------------------------------------------------------------------------------------


@cache
def _workflows() -> list[dict[str, Any]]:
    made = [d for d in all_definitions() if d["kind"] == "workflow"]
    for seed in range(24):
        one = Maker(Random(seed), f"w{seed}", None, 4 + seed % 9).workflow()
        made.append(json.loads(one.model_dump_json()))
    return made


def workflows(random: Random, held: list[Any]) -> Outcome:
    """A workflow that holds, or that nobody checked: problems with their paths, and runs that end or wait, never an exception."""
    value = damaged(random, random.choice(_workflows()), random.choice((0, 1, 1, 2, 3)))
    held.append(value)
    try:
        workflow = Workflow.model_validate_json(encoded(random, value, 0.05))
    except ValidationError:
        return {"refused": 1}
    found = problems(workflow)
    catalogue = Catalogue()
    catalogue.put(workflow.model_copy(update={"tenant": "acme"}))
    desk = Desk(Shelf(catalogue))
    names = [getattr(pattern.where, "value", "go") for pattern in workflow.events.values()]
    trigger = workflow.trigger
    go = getattr(getattr(trigger, "where", None), "value", "go")
    at, steps = T0, set()
    for number in range(6):
        type_ = go if number == 0 else random.choice([*names, "go", random.choice(NASTY)])
        try:
            data = orjson.loads(
                encoded(random, damaged(random, {**EVENT, "type": type_, "cart": "c"}, random.choice((0, 0, 1))), 0)
            )
        except orjson.JSONDecodeError:
            continue  # such a row is a dead letter of METER
        what = Occurrence(
            "acme", "shop", "user:u", f"e{number}", at, "events.usage", data if isinstance(data, dict) else {}
        )
        came = [*desk.happened(what, at), *desk.advance(at := at + random.choice((0, 1_000, 3_600_000, 10**10)), at)]
        for one in came:
            msgspec.json.encode(one.record)
            for command in one.commands:
                assert command.id not in steps
                steps.add(command.id)
    again = Desk(Shelf(catalogue))
    for row, raw in desk.rows():
        if raw is not None:
            again.load(row, raw)
    again.loaded()
    return {"problems" if found else "accepted": 1}


# --- detectors ----------------------------------------------------------------------------------------------------------

_DETECTOR: dict[str, Any] = {
    "kind": "detector", "tenant": "acme", "name": "d", "detector": "weekly", "metric": "error_rate", "of": "service:x", "window": "1h",
    "every_s": 300, "learn": 20, "limit": 3.0, "clear_limit": 1.0, "direction": "up", "for_s": 60, "keep_firing_for_s": 600,
}  # fmt: skip
_READINGS = (0.0, -0.0, 1.0, 1e-300, 5e-324, 1e18, -1e18, 1e308, -1e308, 1.7976931348623157e308, 0.1, 1e9 + 0.1)


def detectors(random: Random, held: list[Any]) -> Outcome:
    """A detector and a series of finite readings: a memory of a fixed size, and scores and bands that are numbers; or refused."""
    value = damaged(random, _DETECTOR, random.choice((0, 1, 1, 2)))
    held.append(value)
    try:
        definition = Detector.model_validate(value)
    except ValidationError:
        return {"refused": 1}
    detector = DETECTORS[definition.detector]
    memory = detector.begin()
    at, sizes = T0, set()
    steady = random.random() < 0.3
    for _ in range(60):
        at += random.choice((300_000, 300_000, 3_600_000, 10**9))
        reading = 1.0 if steady else random.choice((*_READINGS, random.gauss(10, 1), random.uniform(-1e6, 1e6)))
        held.append(reading)
        memory, score, _ = detector.step(memory, at, reading)
        assert math.isfinite(score) and score >= 0 and all(map(math.isfinite, memory)), (score, memory[:8])
        band = detector.band(memory, at, definition.limit)
        assert not any(map(math.isnan, band)), band
        memory = json.loads(json.dumps(memory))
        sizes.add(len(memory))
    assert len(sizes) == 1
    return {"accepted": 1}


ACTING: dict[str, tuple[Callable[[Random, list[Any]], Outcome], int, int]] = {
    "cel": (cel, 1, 30_000),
    "triggers": (triggers, 1, 30_000),
    "workflows": (workflows, 1, 20_000),
    "detectors": (detectors, 1, 20_000),
}
"""As `doors.DOORS`."""
