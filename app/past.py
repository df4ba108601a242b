"""What stands in topics, in order of arrival, with a bounded part of it in memory."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.kafka import Record, consumer, partitions_of
from app.settings import Settings

AT_ONCE: Final = 500
"""Rows that wait here, of one partition."""


async def in_order(
    settings: Settings,
    topics: Sequence[str],
    *,
    follow: bool = False,
    at_end: Callable[[], None] = lambda: None,
) -> AsyncGenerator[Record, None]:
    """Every committed record of the topics: partitions merged by the time of their next record, each in order of its offsets. Ends
    with what stood there at the start, unless `follow`; then `at_end` is called in between.

    Raises `NoKafka`, `MissingTopic`.
    """
    partitions = await partitions_of(settings, topics)
    async with consumer(settings, max_partition_fetch_bytes=1 << 18) as made:
        made.assign(partitions)
        await made.seek_to_beginning(*partitions)
        merged = _Merged(settings, made, await made.end_offsets(partitions))
        async for record in merged.past():
            yield record
        at_end()
        if not follow:
            return
        for record in merged.beyond:
            yield record
        while True:
            for tp, rows in (await made.getmany(timeout_ms=200)).items():
                for row in rows:
                    yield merged.record(tp, row)


class _Merged:
    """`ends`: where each partition ended at the start."""

    def __init__(self, settings: Settings, made: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        self._names = {tp.topic: settings.bare(tp.topic) for tp in ends}
        self._made = made
        self._ends = ends
        self._waiting: dict[TopicPartition, deque[Any]] = {tp: deque() for tp in ends}
        self._unread = set(ends)
        """Partitions that have not been read to their end."""
        self.beyond: list[Record] = []
        """Read with the last rows of the past, and younger than it."""

    def record(self, tp: TopicPartition, row: Any) -> Record:
        """A consumer's row as ours."""
        return Record(self._names[tp.topic], tp.partition, row.offset, row.timestamp, row.key, row.value, row.headers)

    async def past(self) -> AsyncGenerator[Record, None]:
        """A record goes out when every partition that holds more has shown its next one."""
        heads: list[tuple[int, TopicPartition]] = []
        missing = set(self._ends)
        while True:
            for tp in await self._shown(missing):
                heapq.heappush(heads, (self._waiting[tp][0].timestamp, tp))
            if not heads:
                return
            _, tp = heapq.heappop(heads)
            yield self.record(tp, self._waiting[tp].popleft())
            missing = {tp}

    async def _shown(self, wanted: set[TopicPartition]) -> list[TopicPartition]:
        """Those of these that have a next record, read on where need be."""
        while lacking := [tp for tp in wanted if tp in self._unread and not self._waiting[tp]]:
            for tp in lacking:
                # By position: control records and compaction leave offsets that nobody reads.
                if await self._made.position(tp) >= self._ends[tp]:
                    self._unread.discard(tp)
            asked = [tp for tp in lacking if tp in self._unread]
            if not asked:
                break
            for tp, rows in (await self._made.getmany(*asked, timeout_ms=200, max_records=AT_ONCE)).items():
                for row in rows:
                    if row.offset < self._ends[tp]:
                        self._waiting[tp].append(row)
                    else:
                        self.beyond.append(self.record(tp, row))
        return [tp for tp in wanted if self._waiting[tp]]
