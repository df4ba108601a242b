"""What the transport tests share: topics, producing, reading back, waiting for conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from transport.state import read_state


async def create(bootstrap: str, topics: Mapping[str, int], **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, count, 1, topic_configs=config) for name, count in topics.items()])
    finally:
        await admin.close()


async def counting_topics(bootstrap: str, prefix: str, partitions: int) -> None:
    await create(bootstrap, {f"{prefix}{name}": partitions for name in ("in", "out", "dead-letters")})
    await create(bootstrap, {f"{prefix}state.counter": partitions}, **{"cleanup.policy": "compact"})


async def produce(bootstrap: str, topic: str, rows: list[tuple[int, bytes]], **arguments: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, **arguments)
    await producer.start()
    try:
        sent = [await producer.send(topic, value, key=b"k", partition=partition) for partition, value in rows]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def read_all(bootstrap: str, topic: str, partitions: int) -> list[list[bytes | None]]:
    """All committed values by partition, by aiokafka's plain consumer. A commit that is still being marked is waited for a while."""
    tps = [TopicPartition(topic, n) for n in range(partitions)]
    ends = await _high_watermarks(bootstrap, tps)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        consumer.assign(tps)
        found: list[list[bytes | None]] = [[] for _ in tps]
        deadline = time.monotonic() + 8.0  # a transaction may also be left open for good
        while time.monotonic() < deadline and any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp.partition] += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


async def _high_watermarks(bootstrap: str, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_uncommitted")
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
        return ends
    finally:
        await consumer.stop()


async def _marked(bootstrap: str, tp: TopicPartition, seconds: float = 8.0) -> None:
    """Waits until readers of committed rows are shown the partition to its present end; a transaction may also stay open."""
    end = (await _high_watermarks(bootstrap, [tp]))[tp]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        deadline = time.monotonic() + seconds
        while (await consumer.end_offsets([tp]))[tp] < end and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
    finally:
        await consumer.stop()


async def state_of(bootstrap: str, topic: str, partition: int) -> dict[bytes, bytes]:
    """The live rows of a state. A commit that is still being marked is waited for a while."""
    await _marked(bootstrap, TopicPartition(topic, partition))
    state: dict[bytes, bytes] = {}
    async for key, value in read_state(bootstrap, topic, partition):
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
    return state


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], seconds: float = 90.0) -> None:
    """Waits until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        await asyncio.sleep(0.05)
