"""The task under test, small enough for a closed form: sums by key, a check of each key's sequence, an output a row, timers.

A row is `sequence amount` under its key; rows of transactions that will be aborted say `never`. The output of a row carries
the sum with it, so every intermediate value is compared. Every third amount sets a timer that puts out once more, later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.batch import Batch
from core.effects import Effect, Emit
from core.task import StateRecord, TaskSpec

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


def spec() -> TaskSpec:
    """Two topics that move together, state in Kafka."""
    return TaskSpec("sim", "summing", TOPICS, SummingTask, "state.sim")
