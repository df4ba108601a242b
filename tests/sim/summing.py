"""The task under test, small enough for a closed form: sums by key, a check of each key's sequence, an output a row, timers.

A row is `sequence amount` under its key; rows of transactions that will be aborted say `never`. The output of a row carries
the sum with it, so every intermediate value is compared. Every third amount sets a timer that puts out once more, later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from core.batch import Batch
from core.effects import Effect, Emit
from core.task import StateRecord, TaskSpec
from tests.sim.broker import Broker
from tests.sim.scenario import live

TOPICS = ("in.a", "in.b")
TIMER_MS = 300
NEVER = b"never"


class Wrong(AssertionError):
    """A task saw what it must never see."""


class SummingTask:
    """State: `s|topic|key` → `sequence sum`; `t|topic|offset` → when it is due."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.sums: dict[bytes, tuple[int, int]] = {}
        self.timers: dict[bytes, int] = {}
        self.changed: dict[bytes, bytes | None] = {}
        self.poisoned = 0

    def load(self, key: bytes, value: bytes | None) -> None:
        if key.startswith(b"t|"):
            if value is None:
                self.timers.pop(key, None)
            else:
                self.timers[key] = int(value)
        elif value is not None:
            sequence, total = value.split()
            self.sums[key] = (int(sequence), int(total))

    def loaded(self) -> None:
        pass

    def step(self, batch: Batch) -> Iterable[Effect]:
        topic = batch.topic.encode()
        for row, value in enumerate(batch.values):
            if value is None or value == NEVER:
                raise Wrong(f"{batch.topic}/{batch.partition}@{batch.offsets[row]}: {value!r} was handed out")
            key = b"s|%s|%s" % (topic, batch.rows.key(row) or b"")
            sequence, amount = (int(part) for part in value.split())
            last, total = self.sums.get(key, (0, 0))
            total += amount
            self.sums[key] = (sequence, total)
            self.changed[key] = b"%d %d" % (sequence, total)
            offset = int(batch.offsets[row])
            if amount % 3 == 0:
                timer = b"t|%s|%d" % (topic, offset)
                due = int(batch.timestamps[row]) + TIMER_MS
                self.timers[timer] = due
                self.changed[timer] = b"%d" % due
            # Not raised: a mutated transport would be caught here already, and the verdict is to be by what came of it.
            wrong = b"" if sequence == last + 1 else b" after %d" % last
            yield Emit("out", key, b"%s@%d %d%s" % (topic, offset, total, wrong), self.partition)

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        for timer in [timer for timer, due in self.timers.items() if due <= now]:
            del self.timers[timer]
            self.changed[timer] = None
            yield Emit("out", timer, b"rang", self.partition)

    def wake_at(self) -> int | None:
        return min(self.timers.values(), default=None)

    def drain(self) -> list[StateRecord]:
        changed, self.changed = self.changed, {}
        return list(changed.items())


class Summing:
    """The scenario of most runs."""

    group = "summing"
    topics = TOPICS
    outputs = ("out",)

    def spec(self, partitions: int) -> TaskSpec:
        """Two topics that move together, state in Kafka."""
        return TaskSpec("sim", self.group, TOPICS, SummingTask, "state.sim")

    def specs(self, partitions: int) -> list[TaskSpec]:
        return [self.spec(partitions)]

    def pump(self, wires: object, net: object) -> None:
        return None

    def beside(self, topic: str) -> bytes | None:
        return None

    def first(self, topic: str) -> bytes | None:
        return None

    def row(self, topic: str, partition: int, key: bytes, sequence: int, at: int, random: Random) -> bytes:
        return b"%d %d" % (sequence, int(random.random() * 90))

    def never(self) -> bytes:
        return NEVER

    def differences(self, broker: Broker, partition: int) -> list[str]:
        outputs: Counter[tuple[bytes | None, bytes | None]] = Counter()
        state: dict[bytes, bytes] = {}
        for topic in TOPICS:
            totals: Counter[bytes] = Counter()
            for row in broker.topics[f"p.{topic}"][partition].committed():
                assert row.key is not None and row.value is not None
                sequence, amount = (int(part) for part in row.value.split())
                totals[row.key] += amount
                key = b"s|%s|%s" % (topic.encode(), row.key)
                state[key] = b"%d %d" % (sequence, totals[row.key])
                outputs[key, b"%s@%d %d" % (topic.encode(), row.offset, totals[row.key])] += 1
                if amount % 3 == 0:
                    outputs[b"t|%s|%d" % (topic.encode(), row.offset), b"rang"] += 1
        seen = Counter((row.key, row.value) for row in broker.topics["p.out"][partition].committed())
        found = compare(f"outputs of partition {partition}", outputs, seen)
        kept = live(broker, partition)
        if kept != state:
            found.append(f"state of partition {partition}: {kept} instead of {state}")
        return found


def compare(what: str, expected: Counter[Any], seen: Counter[Any]) -> list[str]:
    """What is lost, and what is too many, in words."""
    lost, more = expected - seen, seen - expected
    told = [f"{what}: {sum(lost.values())} lost, as {next(iter(lost))}"] if lost else []
    return told + ([f"{what}: {sum(more.values())} too many, as {next(iter(more))}"] if more else [])
