"""METER in a backtest: its partitions know nothing of each other, so each process works some of them through the whole range."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from app.archive import Archived
from app.backtest.reach import Source
from core.batch import Batch, Headers, Int64s
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.meter.asked import Wanted as AskedFigures
from core.meter.clocks import DISORDER_MS
from core.meter.others import TOPICS as OTHER_TOPICS
from core.meter.others import OthersTask
from core.meter.task import TOPICS, MeterTask
from schemas.registers import SOURCES, Clock, decode

REGISTERS: Final = "meter.registers"
_REPLAY: Final = b"uptake.replay."
Sent = tuple[str, bytes | None, bytes, int | None, int]
"""Topic, key, value, partition (None: by the key), broker time of the row that it was made of (0: of none)."""


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
        clocks: Mapping[Source, Int64s],
        first: int,
        news: int,
        strict: bool,
        asked: Mapping[str, AskedFigures],
        corrected: Container[str] = TOPICS,
    ) -> None:
        self._hot = MeterTask(partition, partitions, catalogue, strict=strict, asked=asked, corrected=corrected)
        self._others = OthersTask(partition, partitions, catalogue, strict=strict)
        self._lanes = {t: Lane(archived, t, partition, first) for t in TOPICS}
        self._lanes |= {t: Lane(archived, t, partition, news) for t in OTHER_TOPICS}
        self._clocks = {s: _from(clocks.get((s, partition)), first if s in TOPICS else news) for s in SOURCES}
        self._partition = partition

    def until(self, end: int) -> list[Sent]:
        """Everything up to this broker time. Of clocks, what was told last: those in between judge nothing else."""
        sent: list[Sent] = []
        last: dict[tuple[str, bool], list[Sent]] = {}
        for source in SOURCES:
            for effect in self._work(source, end):
                if not isinstance(effect, Emit) or effect.value is None:
                    continue
                one = (effect.topic, effect.key, effect.value, effect.partition, effect.stamp)
                if effect.topic == REGISTERS and effect.key is None:
                    clock = decode(effect.value)
                    assert isinstance(clock, Clock)
                    told = last.setdefault((source, clock.replaying), [])
                    if effect.partition == 0:
                        told.clear()
                    told.append(one)
                else:
                    sent.append(one)
        self._hot.let_go()
        return sent + [one for told in last.values() for one in told]

    def _work(self, source: str, end: int) -> Iterator[Effect]:
        """Rows, and the clocks that were recorded between them."""
        clocks = self._clocks[source]
        stop = int(np.searchsorted(clocks[:, 0], end))
        clocks, self._clocks[source] = clocks[:stop], clocks[stop:]
        if source in TOPICS:
            for batch in self._lanes[source].until(end):
                clocks, before = _split(clocks, int(batch.timestamps[-1]))
                yield from self._hot_rows(source, batch, before)
        else:
            for topic in OTHER_TOPICS:
                for batch in self._lanes[topic].until(end):
                    yield from self._others.step(marked(batch, _split(clocks, int(batch.timestamps[-1]))[1]))
        if len(clocks):
            # The newest: what silence comes after the last row closes is the same in one go.
            task, topics = (self._hot, (source,)) if source in TOPICS else (self._others, OTHER_TOPICS)
            yield from task.tick(int(clocks[-1, 1]) + DISORDER_MS, [(topic, self._partition) for topic in topics])

    def _hot_rows(self, source: str, batch: Batch, clocks: Int64s) -> Iterator[Effect]:
        """A batch with the clocks told between its rows; near a replay's own markers one by one, for it may not hear them."""
        state = self._hot.usage if source == self._hot.usage.topic else self._hot.performance
        if not state.clock.replaying and _REPLAY not in b"".join(filter(None, batch.values)):
            yield from self._hot.step(marked(batch, clocks))
            return
        rows, start = batch.rows, 0
        assert isinstance(rows, Rows)
        for told, at in clocks.tolist():
            stop = int(np.searchsorted(batch.timestamps, told))
            if stop > start:
                yield from self._hot.step(rows.cut(start, stop))
            yield from self._hot.tick(at + DISORDER_MS, [(source, self._partition)])
            start = stop
        yield from self._hot.step(rows.cut(start, len(batch)))


def _from(clocks: Int64s | None, first: int) -> Int64s:
    """Those from this broker time on, by broker time."""
    if clocks is None:
        return np.zeros((0, 2), np.int64)
    kept = clocks[clocks[:, 0] >= first]
    kept[:, 0] = np.maximum.accumulate(kept[:, 0])
    return kept


def _split(clocks: Int64s, at: int) -> tuple[Int64s, Int64s]:
    """(those told after this broker time, those told until then)."""
    cut = int(np.searchsorted(clocks[:, 0], at, side="right"))
    return clocks[cut:], clocks[:cut]


def marked(batch: Batch, clocks: Int64s) -> Batch:
    """The batch with recorded clocks between its rows: outside replays these say what progress markers say (docs/semantics.md §2), and
    thousands of rows with clocks between them are folded at once.
    """
    if not len(clocks):
        return batch
    return replace(batch, clocks=(np.searchsorted(batch.timestamps, clocks[:, 0]), clocks[:, 1]))
