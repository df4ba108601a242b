"""Reading what stands in topics in order of arrival, on real Kafka, with little of it in memory."""

from __future__ import annotations

import heapq
from contextlib import aclosing
from pathlib import Path

import pytest

from app import topics
from app.kafka import Record, consumer, partitions_of, producer
from app.past import AT_ONCE, _Merged, in_order
from app.settings import Settings

pytestmark = pytest.mark.kafka
ROWS = 3_000
T0 = 1_767_603_600_000


async def written(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    """Partition 0 holds old rows, 1 young ones, 2 every time between, and topic `sink` one of each."""
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=3)
    await topics.create(settings)
    async with producer(settings, linger_ms=20) as made:
        sent = []
        for n in range(ROWS):
            for partition, at in ((0, n), (1, 10 * ROWS + n), (2, 7 * n)):
                value = b"%d/%d" % (partition, n)
                sent.append(
                    await made.send(settings.topic("receipts"), value, partition=partition, timestamp_ms=T0 + at)
                )
        for future in sent:
            await future
    return settings


async def test_partitions_are_merged_by_time_and_little_waits(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = await written(kafka, prefix, tmp_path)
    ended: list[int] = []
    async with aclosing(in_order(settings, ["receipts"], at_end=lambda: ended.append(len(found)))) as records:
        found: list[Record] = []
        async for record in records:
            found.append(record)
    assert ended == [3 * ROWS]
    by_partition = [[r for r in found if r.partition == p] for p in range(3)]
    assert [[r.offset for r in one] for one in by_partition] == [list(range(ROWS))] * 3
    wanted = heapq.merge(*by_partition, key=lambda r: (r.timestamp, r.partition))
    assert [(r.partition, r.offset) for r in found] == [(r.partition, r.offset) for r in wanted]

    places = await partitions_of(settings, ["receipts"])
    async with consumer(settings) as made:
        made.assign(places)
        await made.seek_to_beginning(*places)
        merged = _Merged(settings, made, await made.end_offsets(places))
        most = 0
        async for _ in merged.past():
            most = max(most, *(len(rows) for rows in merged._waiting.values()))
    assert 0 < most <= AT_ONCE and not merged.beyond


async def test_following_goes_on_behind_what_was_there(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2)
    await topics.create(settings)
    async with producer(settings) as made:
        for n in range(4):
            await made.send_and_wait(settings.topic("sink"), b"%d" % n, partition=n % 2)
        seen: list[bytes | None] = []
        ended: list[int] = []
        async with aclosing(
            in_order(settings, ["sink"], follow=True, at_end=lambda: ended.append(len(seen)))
        ) as records:
            async for record in records:
                seen.append(record.value)
                if len(seen) == 4:
                    await made.send_and_wait(settings.topic("sink"), b"live", partition=1)
                if record.value == b"live":
                    break
    assert sorted(seen, key=str) == [b"0", b"1", b"2", b"3", b"live"] and ended == [4]
