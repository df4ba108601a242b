"""Kafka → segments: what is new in each topic since the backup before, block by block, never all of it in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition

from app.backup.manifest import Copy, Segment, Stand, State
from app.backup.place import SEGMENTS, Place
from app.backup.segments import SEGMENT_BYTES, Rows, write_frame
from transport.blocks import Block
from transport.logs import LogReader
from transport.state import POSITIONS, decode_positions, task_id

MEMORY_BYTES: Final = 128 << 20
"""What the rows of all topics that wait may take together, about, before the largest is written."""


class Unreadable(RuntimeError):
    """A stored batch cannot be read, so the copy would have a hole; the message names the place."""


@dataclass(slots=True)
class Growing:
    """One topic's copy while it is made."""

    full: str
    """The topic as Kafka knows it."""
    partitions: int
    role: str | None = None
    """Of a state topic: whose."""
    segments: list[Segment] = field(default_factory=list)
    next: dict[int, int] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    """Of a state topic: behind the last whole checkpoint."""
    tasks: dict[str, Stand] = field(default_factory=dict)
    rows: Rows = field(default_factory=Rows)
    written: int = 0

    def places(self) -> list[TopicPartition]:
        """Its partitions."""
        return [TopicPartition(self.full, partition) for partition in range(self.partitions)]

    def copy(self) -> Copy:
        """As the manifest holds it."""
        return Copy(partitions=self.partitions, segments=self.segments, next=self.next, newest=self.newest)


class Copier:
    """Copies topics on from where their copies end. One backup's."""

    def __init__(self, reader: LogReader, place: Place, ident: str) -> None:
        self._reader = reader
        self._place = place
        self._ident = ident
        self._growing: dict[str, Growing] = {}

    async def add(self, growing: Growing, before: Copy | None, state: State | None = None) -> None:
        """Take a topic in. Its copy goes on from `before` (of a state topic with `state`), unless the topic was made anew since."""
        self._growing[growing.full] = growing
        if before is None or before.partitions != growing.partitions or not await self._same(growing, before):
            return
        growing.segments = list(before.segments)
        growing.next, growing.newest = dict(before.next), dict(before.newest)
        if state is not None:
            growing.ends, growing.tasks = dict(state.ends), dict(state.tasks)

    async def _same(self, growing: Growing, before: Copy) -> bool:
        """Whether this is still the topic of the copy: in one made anew, every row is younger than what was copied."""
        if any(not s.name.startswith(f"{SEGMENTS}{growing.full}/") for s in before.segments[-1:]):
            return False  # another version of the figures
        bounds = await self._reader.bounds(growing.places())
        if any(bounds[tp][1] < before.next.get(tp.partition, 0) for tp in bounds):
            return False
        times = {tp: before.newest[tp.partition] for tp in bounds if tp.partition in before.newest}
        found = await self._reader.first_after(times)
        return all(at is None or at >= before.next[tp.partition] or at > bounds[tp][0] for tp, at in found.items())

    async def advance(self, names: Iterable[Growing], starts: Mapping[TopicPartition, int] | None = None) -> None:
        """Copy everything that stands in these topics now. `starts`: where a copy that is empty begins; else the log's begin.

        Raises `Unreadable`, `PlaceError`, `LogStalled`, `StateFormatError`.
        """
        topics = list(names)
        bounds = await self._reader.bounds(tp for topic in topics for tp in topic.places())
        spans: dict[TopicPartition, tuple[int, int]] = {}
        for topic in topics:
            for tp in topic.places():
                first, end = bounds[tp]
                begin = max(first, topic.next.get(tp.partition, (starts or {}).get(tp, first)))
                spans[tp] = (begin, end)
                topic.next[tp.partition] = max(begin, topic.next.get(tp.partition, 0))
        async for block in self._reader.read(spans):
            self._take(self._growing[block.topic], block)
            await self._relieve()

    async def flush(self) -> None:
        """Write what waits."""
        for topic in self._growing.values():
            await self._write(topic)

    def _take(self, topic: Growing, block: Block) -> None:
        partition = block.partition
        if block.spoiled:
            spoiled = block.spoiled[0]
            raise Unreadable(
                f"{topic.full}/{partition} at offset {spoiled.offset} cannot be read ({spoiled.reason}: {spoiled.detail}): "
                "repair or delete those rows, then back up again"
            )
        if len(block):
            topic.rows.take(block)
            topic.newest[partition] = max(int(block.timestamps.max()), topic.newest.get(partition, 0))
        topic.next[partition] = block.next_offset
        if topic.role is not None:
            for row, value in enumerate(block.values):
                key = block.keys.key(row)
                if value is not None and key is not None and key.startswith(POSITIONS):
                    stand = decode_positions(value)
                    task = task_id(topic.role, key[len(POSITIONS) :].decode(), partition)
                    if task in topic.tasks and stand.number <= topic.tasks[task].number:
                        raise Unreadable(
                            f"{topic.full}/{partition} counts its checkpoints anew: make a full backup (`uptake backup --full`)"
                        )
                    topic.tasks[task] = Stand(number=stand.number, next=stand.next)
                    topic.ends[partition] = int(block.offsets[row]) + 1

    async def _relieve(self) -> None:
        waiting = 0
        for topic in self._growing.values():
            if topic.rows.size > SEGMENT_BYTES:
                await self._write(topic)
            waiting += topic.rows.held
        if waiting > MEMORY_BYTES:
            await self._write(max(self._growing.values(), key=lambda topic: topic.rows.held))

    async def _write(self, topic: Growing) -> None:
        if not len(topic.rows):
            return
        name = f"{SEGMENTS}{topic.full}/{self._ident}-{len(topic.segments):06d}.parquet"
        segment = await write_frame(self._place, name, topic.rows.frame())
        topic.segments.append(segment)
        topic.written += segment.size
        topic.rows = Rows()
