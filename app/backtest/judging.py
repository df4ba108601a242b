"""DECIDE's first task in a backtest, in a process of its own: nothing of what it says comes back to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from app.backtest.metering import REGISTERS, Rows, Sent
from core.batch import Batch
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.meter.keys import partition_of
from core.workflows.shelf import DETECTIONS
from core.workflows.task import RECEIPTS, SIGNALS
from schemas.registers import SOURCES

_TOLD: Final = frozenset({SIGNALS, DETECTIONS, RECEIPTS})


class Said(NamedTuple):
    """What a task said."""

    sent: list[Sent]
    """Commands, receipts, detections and signals, in order."""
    failed: Counter[str]
    """Reason → how many."""


def said(effects: Iterable[Effect]) -> Said:
    """Of these, what somebody in a backtest hears of."""
    found = Said([], Counter())
    for effect in effects:
        if isinstance(effect, Count):
            if effect.metric == "uptake_failed_total":
                found.failed[effect.labels[-1]] += int(effect.n)
        elif isinstance(effect, Emit) and effect.value is not None:
            if effect.topic in _TOLD or effect.topic.startswith("commands."):
                found.sent.append((effect.topic, effect.key, effect.value, effect.partition, 0))
    return found


class Feed:
    """Gives each of the `partitions` its rows."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._places: dict[bytes, int] = {}

    def partition(self, one: Sent) -> int:
        """Where the row belongs: to the partition it was sent to, or by its key."""
        of = one[1]
        if one[3] is not None:
            return one[3]
        if of is None:
            return 0
        found = self._places.get(of)
        if found is None:
            found = self._places[of] = partition_of(of, self._partitions)
        return found

    def batches(self, topic: str, rows: Iterable[Sent], end: int) -> Iterator[tuple[int, Batch]]:
        """(partition, batch). Rows that were made of no row came at the `end`, by the broker's time."""
        by_partition: dict[int, list[Sent]] = defaultdict(list)
        for one in rows:
            by_partition[self.partition(one)].append(one)
        for partition, some in sorted(by_partition.items()):
            n = len(some)
            offsets = np.arange(n, dtype=np.int64)
            stamps = np.array([r[4] or end for r in some], np.int64)
            keys: list[bytes | None] = [r[1] for r in some]
            yield partition, Rows(topic, partition, offsets, stamps, keys, [r[2] for r in some], {}).cut(0, n)


class Judging:
    """All partitions of `meter.registers`."""

    def __init__(self, catalogue: Catalogue, partitions: int) -> None:
        self._feed = Feed(partitions)
        self._tasks = [
            RegistersTask(p, partitions, catalogue, sources=SOURCES, tables=False) for p in range(partitions)
        ]

    def work(self, sent: Iterable[Sent], end: int) -> Said:
        """Take what METER told until this broker time: registers of all sources, then the clocks that say they are all there."""
        figures: list[Sent] = []
        clocks: list[Sent] = []
        for one in sent:
            (clocks if one[1] is None else figures).append(one)
        found = Said([], Counter())
        for rows in (figures, clocks):
            for partition, batch in self._feed.batches(REGISTERS, rows, end):
                more = said(self._tasks[partition].step(batch))
                found.sent.extend(more.sent)
                found.failed.update(more.failed)
        for task in self._tasks:
            task.let_go()
        return found
