"""Schedules on DECIDE's event time: each time due fires once a product, whatever the batches, the order of sources and the crashes."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from core.batch import Batch
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Emit
from schemas.commands import Command
from schemas.definitions import CommandTemplate, Rule
from schemas.registers import Clock, RegisterRecord, Registers, encode
from tests.core.decide.test_registers import CFG, PARTITIONS, UNTIL, NoKeys, logs_of
from tests.core.decide.worlds import PERFORMANCE, T0, USAGE, Row, Source

HOUR = 3_600_000


def rule(name: str, **trigger: Any) -> Rule:
    command = CommandTemplate(
        type="product.report.write",
        title="{{ due }}",
        text="{{ reason }}",
        payload={"active": "{{ active_users }}", "late": "{{ late }}", "score": "{{ score }}"},
    )
    return Rule.model_validate(
        {"name": name, "id": name, "trigger": {"kind": "schedule", **trigger}, "command": command}
    )


class Running:
    """A task over records, each at a broker time; rebuilt from its state where `crash` says so."""

    def __init__(self, *rules: Rule) -> None:
        self.catalogue = Catalogue()
        self.catalogue.put(CFG)
        for one in rules:
            self.catalogue.put(one)
        self.task = RegistersTask(0, PARTITIONS, self.catalogue)
        self.state: dict[bytes, bytes] = {}
        self.commands: list[Command] = []
        self.detections: list[dict[str, Any]] = []
        self._offset = 0

    def take(self, records: list[RegisterRecord], stamps: list[int]) -> None:
        values: list[bytes | None] = [encode(r) for r in records]
        n = len(values)
        offsets = np.arange(self._offset, self._offset + n)
        self._offset += n
        batch = Batch("meter.registers", 0, values, offsets, np.array(stamps, np.int64), self._offset, NoKeys())
        for effect in self.task.step(batch):
            if isinstance(effect, Emit) and effect.value is not None:
                if effect.topic.startswith("commands."):
                    self.commands.append(Command.model_validate_json(effect.value))
                elif effect.topic == "detections":
                    self.detections.append(json.loads(effect.value))

    def crash(self) -> None:
        for key, value in self.task.drain():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        self.task = RegistersTask(0, PARTITIONS, self.catalogue)
        for key, value in self.state.items():
            self.task.load(key, value)
        self.task.loaded()

    def due(self, name: str) -> list[str]:
        return [c.title for c in self.commands if c.rule == name]


def a_world(seed: int) -> list[Source]:
    rng = random.Random(seed)
    sources = []
    for topic in (USAGE, PERFORMANCE):
        for partition in range(PARTITIONS):
            at, rows = T0, []
            for _ in range(12):
                at += rng.choice([500, 3_000, 20_000, 90_000])
                rows.append(Row(at, f"{partition}{rng.choice('ab')}", "f" if topic == USAGE else "service:x"))
            sources.append(Source(topic, partition, rows))
    return sources


@pytest.mark.parametrize("seed", range(6))
def test_each_time_due_once_whatever_the_cut(seed: int) -> None:
    rng = random.Random(seed)
    rules = (
        rule("five", cron="*/5 * * * *", zone="Europe/Berlin", catch_up="all"),
        rule("odd", cron="7-59/9 * * * *", catch_up="skip"),
        rule("midnight", rrule="FREQ=DAILY;BYHOUR=1", zone="Europe/Berlin"),
        rule("another", cron="* * * * *", product="another"),
    )
    outcomes = []
    for shuffle in range(3):
        running = Running(*rules)
        queues = [list(log) for log in logs_of(a_world(seed), CFG, random.Random(seed))]
        order: list[RegisterRecord] = []
        while any(queues):
            queue = rng.choice([q for q in queues if q])
            order += [queue.pop(0) for _ in range(min(len(queue), rng.choice([1, 1, 3])))]
        while order:
            part, order = order[: shuffle + 1], order[shuffle + 1 :]
            running.take(part, [UNTIL] * len(part))
            if rng.random() < 0.3:
                running.crash()
        outcomes.append(sorted((c.rule, c.title, c.issued_at, c.id, json.dumps(c.payload)) for c in running.commands))
        assert running.due("another") == [] and running.due("midnight") == ["2026-01-01 01:00"]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    first = min(at for _, _, at, *_ in outcomes[0])
    expected = [m for m in range(T0 // 60_000, UNTIL // 60_000 + 1) if m * 60_000 >= first]
    fives = [m for m in expected if m % 5 == 0]
    assert [at for name, _, at, *_ in outcomes[0] if name == "five"] == [m * 60_000 for m in fives]
    odd = [m * 60_000 for m in expected if m % 60 >= 7 and (m % 60 - 7) % 9 == 0]
    assert [at for name, _, at, *_ in outcomes[0] if name == "odd"] == odd


def a_life(product: str = "shop") -> list[RegisterRecord]:
    """Every source has spoken of the product, once."""
    return [
        Registers(source=t, partition=p, tenant="acme", product=product, names=[], columns=["users", "events", "organic"],
                  patches=[], clock=T0, act=True)
        for t in (USAGE, PERFORMANCE) for p in range(PARTITIONS)
    ]  # fmt: skip


def clocks(at: int) -> list[RegisterRecord]:
    return [
        Clock(source=t, partition=p, at=at, replaying=False) for t in (USAGE, PERFORMANCE) for p in range(PARTITIONS)
    ]


def living(*rules: Rule) -> Running:
    """A product that was judged once, at its own time."""
    running = Running(*rules)
    queues = logs_of(a_world(1), CFG, random.Random(1))
    for log in queues:
        running.take(log, [UNTIL] * len(log))
    running.commands.clear()
    return running


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("skip", ["2026-01-04 12:00"]),
        ("once", ["2026-01-04 11:00", "2026-01-04 12:00"]),
    ],
)
def test_an_outage_of_three_days(catch_up: str, expected: list[str]) -> None:
    running = living(rule("hourly", cron="0 * * * *", catch_up=catch_up))
    noon = int(datetime(2026, 1, 4, 12, tzinfo=UTC).timestamp() * 1000)
    seen = clocks(noon + 5_000)
    running.take(seen, [noon + 6_000] * len(seen))
    assert running.due("hourly") == expected
    assert [c.payload["late"] for c in running.commands] == [t == "2026-01-04 11:00" for t in expected]
    running.crash()
    again = clocks(noon + 3_000_000)
    running.take(again, [noon + 3_001_000] * len(again))
    assert running.due("hourly") == expected, "nothing fires again"


def test_an_hour_late_is_not_missed() -> None:
    running = living(rule("hourly", cron="0 * * * *", catch_up="once"))
    noon = int(datetime(2026, 1, 4, 12, tzinfo=UTC).timestamp() * 1000)
    seen = clocks(noon + 5_000)
    running.take(seen, [noon + HOUR] * len(seen))
    assert [(c.title[11:], c.payload["late"]) for c in running.commands] == [("11:00", True), ("12:00", False)]


def test_all_of_them_are_caught_up() -> None:
    running = living(rule("hourly", cron="0 * * * *", catch_up="all"))
    noon = int(datetime(2026, 1, 4, 12, tzinfo=UTC).timestamp() * 1000)
    seen = clocks(noon + 5_000)
    running.take(seen, [noon + 6_000] * len(seen))
    times = [c.issued_at for c in running.commands]
    assert times == list(range(times[0], noon + 1, HOUR)) and len(times) == 84


def test_a_rule_that_comes_later_counts_from_then() -> None:
    running = living()
    running.catalogue.put(rule("minute", cron="* * * * *"))
    seen = clocks(UNTIL + 125_000)
    running.take(seen, [UNTIL + 125_000] * len(seen))
    assert [c.issued_at for c in running.commands] == [UNTIL + 60_000, UNTIL + 120_000]
    running.catalogue.put(rule("minute", cron="*/10 * * * *"))
    seen = clocks(UNTIL + 605_000)
    running.take(seen, [UNTIL + 605_000] * len(seen))
    assert [c.issued_at for c in running.commands][2:] == [UNTIL + 600_000], "the changed schedule, at once"


def test_a_rule_that_is_retired_while_nobody_runs() -> None:
    running = living(rule("minute", cron="* * * * *"), rule("other", cron="*/2 * * * *"))
    running.crash()
    for name in ("minute", "other"):
        running.catalogue.apply(f"all|rule|{name}".encode(), None)
    running.crash()
    seen = clocks(UNTIL + 125_000)
    running.take(seen, [UNTIL + 125_000] * len(seen))
    assert not running.commands
    running.catalogue.put(rule("minute", cron="* * * * *"))
    seen = clocks(UNTIL + 185_000)
    running.take(seen, [UNTIL + 185_000] * len(seen))
    assert [c.issued_at for c in running.commands] == [UNTIL + 180_000], "it counts from when it came again"


def test_signals_are_told_event_time_only_where_a_rule_remembers() -> None:
    quiet = {"kind": "inactivity", "topic": "events.usage", "where": "feature == 'f'", "after_s": 60}
    command = {"type": "success.user.help", "title": "t", "text": "t"}
    remembering = Rule.model_validate({"name": "quiet", "id": "quiet", "trigger": quiet, "command": command})
    told: list[tuple[int | None, int]] = []
    for rules in ((), (remembering,)):
        running = living(*rules)
        seen = clocks(UNTIL + 65_000)
        values: list[bytes | None] = [encode(r) for r in seen]
        made = Batch("meter.registers", 0, values, np.arange(4), np.full(4, UNTIL), 4, NoKeys())
        effects = [e for e in running.task.step(made) if isinstance(e, Emit) and e.topic == "signals"]
        told += [(e.partition, json.loads(e.value or b"")["at"]) for e in effects]
        assert bool(effects) is bool(rules)
    assert told == [(p, UNTIL + 65_000) for p in range(PARTITIONS)]
