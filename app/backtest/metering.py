"""METER in a backtest: its partitions know nothing of each other, so each process works some of them through the whole range."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from app.archive import Archived
from app.backtest.past import Past
from app.backtest.reach import Source
from core.batch import Batch, Headers, Int64s
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.meter.clocks import DISORDER_MS
from core.meter.others import TOPICS as OTHER_TOPICS
from core.meter.others import OthersTask
from core.meter.task import TOPICS, MeterTask
from core.task import Task
from schemas.registers import SOURCES, Clock, decode

REGISTERS: Final = "meter.registers"
Sent = tuple[str, bytes | None, bytes, int | None]
"""Topic, key, value, partition (None: by the key)."""


@dataclass(slots=True)
class Rows:
    """Some rows of a file."""

    topic: str
    partition: int
    offsets: Int64s
    timestamps: Int64s
    keys: list[bytes | None]
    values: list[bytes | None]
    headed: dict[int, Headers]

    def key(self, row: int) -> bytes | None:
        """The row's Kafka key."""
        return self.keys[row]

    def cut(self, start: int, stop: int) -> Batch:
        """A batch of some of the rows."""
        part = Rows(
            self.topic,
            self.partition,
            self.offsets[start:stop],
            self.timestamps[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            {row - start: h for row, h in self.headed.items() if start <= row < stop} if self.headed else {},
        )
        return Batch(
            topic=part.topic,
            partition=part.partition,
            values=part.values,
            offsets=part.offsets,
            timestamps=part.timestamps,
            next_offset=int(part.offsets[-1]) + 1,
            rows=part,
            headed=part.headed,
        )


class Lane:
    """One partition of one topic, from some broker time on."""

    def __init__(self, archived: Archived, topic: str, partition: int, first: int) -> None:
        self._frames = archived.frames(topic, partition)
        self._topic, self._partition, self._first = topic, partition, first
        self._rows: Rows | None = None
        self._at = 0

    def until(self, end: int) -> Iterator[Batch]:
        """What came before this broker time and was not taken yet."""
        while (rows := self._more()) is not None:
            stop = int(np.searchsorted(rows.timestamps, end))
            if stop <= self._at:
                return
            start, self._at = self._at, stop
            yield rows.cut(start, stop)
            if stop < len(rows.offsets):
                return

    def _more(self) -> Rows | None:
        while self._rows is None or self._at >= len(self._rows.offsets):
            frame = next(self._frames, None)
            if frame is None:
                return None
            headed: dict[int, Headers] = {}
            if frame["headers"].null_count() < len(frame):
                for row, found in enumerate(frame["headers"].to_list()):
                    if found:
                        headed[row] = [(h["name"], h["value"]) for h in found]
            stamps = np.maximum.accumulate(frame["timestamp"].to_numpy())
            self._rows = Rows(
                self._topic,
                self._partition,
                frame["offset"].to_numpy(),
                stamps,
                frame["key"].to_list(),
                frame["value"].to_list(),
                headed,
            )
            self._at = int(np.searchsorted(stamps, self._first))
        return self._rows


class Metering:
    """One partition's METER, driven from files: the hot topics' task and the others'."""

    def __init__(
        self,
        archived: Archived,
        partition: int,
        partitions: int,
        catalogue: Catalogue,
        clocks: dict[Source, list[tuple[int, int]]],
        first: int,
        strict: bool,
    ) -> None:
        self._hot = MeterTask(partition, partitions, catalogue, strict=strict)
        self._others = OthersTask(partition, partitions, catalogue, strict=strict)
        self._lanes = {t: Lane(archived, t, partition, first) for t in (*TOPICS, *OTHER_TOPICS)}
        self._clocks = {s: iter(clocks.get((s, partition), ())) for s in SOURCES}
        self._next = {source: next(c, None) for source, c in self._clocks.items()}
        self._partition, self._first = partition, first

    def until(self, end: int) -> list[Sent]:
        """Everything up to this broker time. Of clocks, what was told last: those in between judge nothing else."""
        sent: list[Sent] = []
        last: dict[tuple[str, bool], list[Sent]] = {}
        for source in SOURCES:
            for effect in self._work(source, end):
                if not isinstance(effect, Emit) or effect.value is None:
                    continue
                one = (effect.topic, effect.key, effect.value, effect.partition)
                if effect.topic == REGISTERS and effect.key is None:
                    clock = decode(effect.value)
                    assert isinstance(clock, Clock)
                    told = last.setdefault((source, clock.replaying), [])
                    if effect.partition == 0:
                        told.clear()
                    told.append(one)
                else:
                    sent.append(one)
        return sent + [one for told in last.values() for one in told]

    def _work(self, source: str, end: int) -> Iterator[Effect]:
        """Rows, and between them the silences: a recorded clock ahead of the rows before it came from one."""
        topics = (source,) if source in TOPICS else OTHER_TOPICS
        task = self._hot if source in TOPICS else self._others
        while (clock := self._next[source]) is not None and clock[0] < end:
            told, at = clock
            if told >= self._first:
                yield from self._rows(task, topics, told)
                yield from task.tick(at + DISORDER_MS, [(topic, self._partition) for topic in topics])
            self._next[source] = next(self._clocks[source], None)
        yield from self._rows(task, topics, end)

    def _rows(self, task: Task, topics: Sequence[str], end: int) -> Iterator[Effect]:
        for topic in topics:
            for batch in self._lanes[topic].until(end):
                yield from task.step(batch)


@dataclass(slots=True)
class Job:
    """What one process is to do."""

    url: str
    mine: Sequence[int]
    partitions: int
    past: Past
    cuts: Sequence[int]
    clocks: dict[Source, list[tuple[int, int]]]
    strict: bool = False


def work(job: Job, out: Any) -> None:
    """Body of a process: a list of what was sent for each cut, in order; a text where it failed."""
    try:
        archived = Archived.open(job.url)
        catalogue = Catalogue()
        past = job.past.follower(catalogue)
        first = job.cuts[0]
        tasks = [Metering(archived, p, job.partitions, catalogue, job.clocks, first, job.strict) for p in job.mine]
        for begin, end in pairwise(job.cuts):
            past.until(begin)
            out.put([sent for task in tasks for sent in task.until(end)])
    except BaseException:
        out.put(traceback.format_exc())
        raise


def clocks_by_partition(
    clocks: dict[Source, list[tuple[int, int]]], mine: Sequence[int]
) -> dict[Source, list[tuple[int, int]]]:
    """Those of some partitions."""
    found: dict[Source, list[tuple[int, int]]] = defaultdict(list)
    for (topic, partition), told in clocks.items():
        if partition in mine:
            found[topic, partition] = told
    return dict(found)
