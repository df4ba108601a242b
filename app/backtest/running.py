"""ORCHESTRATE in a backtest: what runs were told of, each in its place by the broker's time, with their timers and receipts between.

A recorded receipt is told when its time has come and its command was given; a command that was never given in earnest is taken to be
delivered at once, at the event time at which it was ordered, so that no run depends on how the log is cut.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Final

import msgspec
import numpy as np

from app.backtest.metering import REGISTERS, Rows, Sent
from app.backtest.report import Given, given
from app.backtest.timeline import Timeline
from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.meter.keys import partition_of
from core.people.profile import TOPICS as PEOPLE
from core.workflows.task import RECEIPTS, SETTLED_MS, SIGNALS, RunsTask
from schemas.commands import Command
from schemas.delivery import Receipt
from schemas.envelope import derived_id
from schemas.registers import SOURCES, Clock, encode

Told = tuple[int, bytes, bytes]
"""Broker time, key, value of a recorded receipt."""
_EVER: Final = 1 << 62
"""Nobody is in a hurry here: partitions are worked one after the other."""
_NOT_FOR_RUNS: Final = frozenset({"clock", "prediction"})


class _Heard(msgspec.Struct):
    """What decides whether and when runs hear of a signal or a detection."""

    at: int
    kind: str
    workflows: list[str] = []
    topic: str | None = None


_heard = msgspec.json.Decoder(_Heard).decode


class Running:
    """All partitions' runs. `give`: is told of each command; `withheld`: of each receipt that stands for one that was not given."""

    def __init__(
        self,
        catalogue: Catalogue,
        partitions: int,
        timeline: Timeline,
        receipts: Mapping[str, list[Told]],
        sent: frozenset[str],
        give: Callable[[Given], None],
        withheld: Callable[[bytes], None],
    ) -> None:
        self.failed = 0
        self._tasks = [RunsTask(p, partitions, catalogue, SOURCES, patience_ms=_EVER) for p in range(partitions)]
        self._partitions, self._timeline = partitions, timeline
        self._receipts, self._sent = receipts, sent
        self._give, self._withheld = give, withheld
        self._number = count()
        self._told: dict[int, list[tuple[int, int, str, bytes | None, bytes]]] = defaultdict(list)
        """Partition → (broker time, in which order, topic, key, value), of the part that is worked."""
        self._later: dict[int, list[tuple[int, int, bytes | None, bytes]]] = defaultdict(list)
        """Partition → receipts whose commands were given: (broker time, in which order, key, value)."""

    def tell(self, topic: str, partition: int, one: Sent, begin: int, end: int) -> None:
        """Remember a signal or a detection until `work`; what was made of no row came when all sources had passed its time."""
        try:
            heard = _heard(one[2])
        except msgspec.MsgspecError:
            return
        if topic == SIGNALS and (
            heard.kind in _NOT_FOR_RUNS or (heard.kind == "event" and not heard.workflows and heard.topic not in PEOPLE)
        ):
            return
        stamp = one[4] or self._timeline.when(heard.at) or end
        self._told[partition].append((min(max(stamp, begin), end), next(self._number), topic, one[1], one[2]))

    def work(self, clocks: Iterable[Sent], end: int) -> None:
        """Everything that was told, and what is due by this broker time. `clocks`: METER's own, told at the end."""
        own = list(clocks)
        for partition in range(self._partitions):
            self._work(partition, [(c[1], c[2]) for c in own if c[3] == partition], end)
        # What partitions hand over to each other: whom it concerns has waited for it.
        while passed := [partition for partition, told in self._told.items() if told]:
            for partition in passed:
                self._work(partition, [], end)
        for task in self._tasks:
            task.desk.changed.clear()
            task.desk.people.let_go()

    def _work(self, partition: int, clocks: list[tuple[bytes | None, bytes]], end: int) -> None:
        task = self._tasks[partition]
        for stamp, _, topic, key, value in sorted(self._told.pop(partition, ())):
            self._until(partition, stamp)
            self._perform(partition, stamp, task.step(_batch(topic, partition, stamp, [(key, value)])))
        self._until(partition, end)
        if clocks:
            task.step(_batch(REGISTERS, partition, end, clocks))
        self._due(partition, end)
        self._until(partition, end)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _until(self, partition: int, now: int) -> None:
        """Receipts and timers until this broker time, in their order."""
        task, later = self._tasks[partition], self._later[partition]
        while True:
            upto = min(later[0][0], now) if later else now
            due = task.desk.due
            if due is not None and due <= (clock := self._timeline.passed(upto)):
                word = [
                    (None, encode(Clock(source=source, partition=p, at=clock, replaying=False)))
                    for source in SOURCES
                    for p in range(self._partitions)
                ]
                task.step(_batch(REGISTERS, partition, upto, word))
                self._due(partition, upto)
                if task.desk.due != due:
                    continue
            if not later or later[0][0] > now:
                return
            stamp, _, key, value = heapq.heappop(later)
            self._perform(partition, stamp, task.step(_batch(RECEIPTS, partition, stamp, [(key, value)])))

    def _due(self, partition: int, now: int) -> None:
        """Runs that wait for a time that has come, until none does."""
        task, caught_up = self._tasks[partition], [(SIGNALS, partition)]
        self._perform(partition, now, task.tick(now, caught_up))
        self._perform(partition, now, task.tick(now + SETTLED_MS, caught_up))
        while (wake := task.wake_at()) is not None:
            before = len(task.desk), task.desk.due
            self._perform(partition, now, task.tick(max(wake, now + SETTLED_MS), caught_up))
            if (len(task.desk), task.desk.due) == before:
                return

    def _perform(self, partition: int, now: int, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Count):
                if effect.metric == "uptake_failed_total":
                    self.failed += int(effect.n)
            elif isinstance(effect, Emit) and effect.value is not None:
                if effect.topic.startswith("commands."):
                    self._command(partition, now, given(effect.value), effect.key)
                elif effect.topic == RECEIPTS:
                    self._withheld(effect.value)
                    self._answer(partition, now, effect.key, effect.value)
                elif effect.topic == SIGNALS:
                    place = partition_of(effect.key or b"", self._partitions)
                    self._told[place].append((now, next(self._number), SIGNALS, effect.key, effect.value))

    def _command(self, partition: int, now: int, command: Given, key: bytes | None) -> None:
        self._give(command)
        if command.id not in self._sent:
            self._answer(partition, now, key, simulated(command, command.issued_at).model_dump_json().encode())
        for told, place, value in self._receipts.get(command.id, ()):
            self._answer(partition, max(told, now), place, value)

    def _answer(self, partition: int, told: int, key: bytes | None, value: bytes) -> None:
        heapq.heappush(self._later[partition], (told, next(self._number), key, value))


def _batch(topic: str, partition: int, stamp: int, rows: Sequence[tuple[bytes | None, bytes]]) -> Batch:
    n = len(rows)
    offsets, stamps = np.arange(n, dtype=np.int64), np.full(n, stamp, np.int64)
    return Rows(topic, partition, offsets, stamps, [r[0] for r in rows], [r[1] for r in rows], {}).cut(0, n)


def simulated(command: Given | Command, at: int) -> Receipt:
    """What a command that nobody ever delivered is taken to have come to."""
    return Receipt(
        id=derived_id("receipt", command.id, "backtest"),
        delivery=None,
        command=command.id,
        command_type=command.type,
        tenant=command.tenant,
        product=command.product,
        subject=command.subject,
        rule=command.rule,
        connection=None,
        integration="backtest",
        sandboxed=True,
        attempt=1,
        status="delivered",
        final=True,
        at=at,
    )
