"""Reading the raw log from Kafka, record by record, in a few processes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.oracle.partition import Folded, Partition

USAGE, PERFORMANCE = "events.usage", "events.performance"


def fold(client: Mapping[str, Any], prefix: str, *, processes: int = 2, disorder_ms: int = 2_000) -> list[Folded]:
    """Both hot topics, all partitions. `client`: keyword arguments of an aiokafka client (plain values only)."""
    places = asyncio.run(_places(client, prefix))
    if processes == 1:
        return [_fold(client, prefix, place, disorder_ms) for place in places]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_fold, *zip(*((client, prefix, p, disorder_ms) for p in places), strict=True)))


async def _places(client: Mapping[str, Any], prefix: str) -> list[tuple[str, int]]:
    # A subscription without a group: its only use here is that the topics' partitions are known.
    consumer = AIOKafkaConsumer(*(prefix + topic for topic in (USAGE, PERFORMANCE)), **client)
    await consumer.start()
    try:
        return [
            (topic, partition)
            for topic in (USAGE, PERFORMANCE)
            for partition in sorted(consumer.partitions_for_topic(prefix + topic) or ())
        ]
    finally:
        await consumer.stop()


def _fold(client: Mapping[str, Any], prefix: str, place: tuple[str, int], disorder_ms: int) -> Folded:
    return asyncio.run(_read(client, prefix, place, disorder_ms))


async def _read(client: Mapping[str, Any], prefix: str, place: tuple[str, int], disorder_ms: int) -> Folded:
    topic, partition = place
    made = Partition(topic == PERFORMANCE, partition, disorder_ms)
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        where = TopicPartition(prefix + topic, partition)
        consumer.assign([where])
        end = (await consumer.end_offsets([where]))[where]
        while await consumer.position(where) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for r in records:
                    if r.offset < end:
                        made.add(r.value, r.headers, r.timestamp)
    finally:
        await consumer.stop()
    return made.folded()
