"""An experiment of a rule in two partitions: what they tell, folded in any order, and what comes of it."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import numpy as np

from core.batch import Batch
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.outcomes.arms import is_held
from core.outcomes.task import OutcomesTask
from schemas.commands import Command
from schemas.definitions import CommandTemplate, Rule
from schemas.detections import DETECTION, OutcomeReport, VerdictReached
from schemas.outcomes import OutcomeRow
from schemas.parts import Day, encode_part
from schemas.registers import Signal
from tests.helpers.words import a_batch

DAY = 86_400_000
BEGIN = 1_767_225_600_000  # a Thursday
MONDAY = BEGIN + 4 * DAY
PARTITIONS = 2
EVENT = {"kind": "event", "topic": "events.usage", "where": 'type == "user.signed_up"'}
TOLD = Rule.model_validate(
    {
        "name": "told",
        "id": "told",
        "trigger": {"kind": "verdict", "verdicts": ["working", "harmful"]},
        "command": CommandTemplate(
            type="executive.outcome.tell", title="{{ rule }} is {{ verdict }}", text="{{ reason }}"
        ),
    }
)
WEEKLY = Rule.model_validate(
    {
        "name": "weekly",
        "id": "weekly",
        "trigger": {"kind": "report"},
        "command": CommandTemplate(
            type="executive.outcome.report",
            title="{{ working }} work",
            text="{{ reason }}",
            payload={
                "health": "{{ health }}",
                "ranked": "{{ ranked }}",
                "response": "{{ response }}",
                "gain": "{{ gain }}",
            },
        ),
    }
)
FIGURED = Rule.model_validate(
    {
        "name": "calm",
        "id": "calm",
        "trigger": {"kind": "band", "bands": ["declining"]},
        "command": CommandTemplate(type="engineering.load.reduce", title="t", text="t"),
        "outcome": {
            "metric": {"kind": "figure", "metric": "error_rate", "window": "1h"},
            "within_s": 7_200,
            "direction": "down",
        },
    }
)


def batch(topic: str, values: Iterable[bytes], at: int = BEGIN) -> Batch:
    return a_batch(topic, list(values), at=at)


def a_rule(**more: object) -> Rule:
    fields: dict[str, object] = {
        "name": "welcome",
        "id": "welcome",
        "trigger": EVENT,
        "holdout": 0.4,
        "ceiling_per_hour": 100_000,
        "command": CommandTemplate(type="marketing.email.send", title="t", text="t"),
        "outcome": {
            "metric": {"kind": "conversion", "where": 'type == "purchase.completed"', "value": "amount"},
            "within_s": 3_600,
        },
        **more,
    }
    return Rule.model_validate(fields)


def a_catalogue(*rules: Rule) -> Catalogue:
    catalogue = Catalogue()
    for rule in rules:
        catalogue.put(rule)
    return catalogue


def a_signal(user: str, at: int, type_: str, cause: str) -> bytes:
    data: dict[str, object] = {"type": type_, "user": user, "amount": 30}
    return msgspec.json.encode(
        Signal(
            tenant="acme",
            product="shop",
            subject=f"user:{user}",
            kind="event",
            cause=cause,
            rules=["welcome"],
            at=at,
            data=data,
        )
    )


def a_clock(at: int) -> bytes:
    clock = Signal(tenant="acme", product="shop", subject="", kind="clock", cause="", rules=[], at=at, data={})
    return msgspec.json.encode(clock)


def a_day(i: int, **figures: float) -> bytes:
    day = Day(tenant="acme", product="shop", end=MONDAY - (14 - i) * DAY, act=True, broker_time=BEGIN, figures=figures)
    return encode_part(day)


def parts(catalogue: Catalogue, chance: tuple[float, float], users: int = 1_200) -> list[list[bytes]]:
    """What each partition tells: `users` sign up over a day; of the treated and the held so many buy within the hour."""
    told: list[list[bytes]] = []
    for partition in range(PARTITIONS):
        task = SignalsTask(partition, PARTITIONS, catalogue)
        rng = np.random.default_rng(partition)
        rows: list[tuple[int, bytes]] = []
        for i in range(users // PARTITIONS):
            user, at = f"{partition}-{i}", BEGIN + int(rng.integers(0, DAY))
            rows.append((at, a_signal(user, at, "user.signed_up", f"s{user}")))
            if rng.random() < chance[is_held("acme", "welcome", f"user:{user}", 0.4)]:
                rows.append((at + 60_000, a_signal(user, at + 60_000, "purchase.completed", f"p{user}")))
        rows += [(t, a_clock(t)) for t in range(BEGIN, BEGIN + 2 * DAY, 1_800_000)]
        effects = task.step(batch("signals", [value for _, value in sorted(rows)]))
        told.append([e.value for e in effects if isinstance(e, Emit) and e.topic == "outcome.parts" and e.value])
        assert task.actor.books.difference == 0
    return told


def rows_of(effects: Iterable[Effect]) -> list[OutcomeRow]:
    return [
        OutcomeRow.model_validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "outcomes"
    ]


def found_in(effects: Iterable[Effect]) -> list[VerdictReached | OutcomeReport]:
    found = [
        DETECTION.validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "detections"
    ]
    assert all(isinstance(f, (VerdictReached, OutcomeReport)) for f in found)
    return found  # type: ignore[return-value]


def commands(effects: Iterable[Effect]) -> list[Command]:
    return [
        Command.model_validate_json(e.value or b"")
        for e in effects
        if isinstance(e, Emit) and e.topic.startswith("commands.")
    ]


def fold(catalogue: Catalogue, told: list[list[bytes]], seed: int, restarts: bool = False) -> list[Effect]:
    """The parts in some interleaving, cut into batches; with `restarts` the task is made anew from its rows after each."""
    rng = random.Random(seed)
    queues = [list(t) for t in told]
    task, state, effects = OutcomesTask(0, PARTITIONS, catalogue), {}, []
    while any(queues):
        taken = min(rng.randint(1, 9), sum(map(len, queues)))
        values = [rng.choice([q for q in queues if q]).pop(0) for _ in range(taken)]
        effects += task.step(batch("outcome.parts", values))
        if restarts:
            state.update(task.drain())
            task = OutcomesTask(0, PARTITIONS, catalogue)
            for key, value in state.items():
                task.load(key, value)
            task.loaded()
    assert task.actor.books.difference == 0
    return effects
