"""Rows into Kafka: whole batches, the murmur2 partitioner, and replay markers in every partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from app.kafka import MissingTopic, acknowledged, client, unreachable
from app.settings import Settings
from app.simulate.encode import PERFORMANCE, USAGE, Encoded
from app.simulate.spoil import Headers
from schemas.events import PRODUCTS_A_MARKER, ReplayMarker

BATCH_BYTES = 256 * 1024
IN_FLIGHT = 64
"""Batches that may wait for the broker's acknowledgement."""


@dataclass(slots=True)
class Written:
    """What went into the log."""

    rows: int = 0
    value_bytes: int = 0


class Log:
    """The two hot topics as something to append to. Use as an async context manager, which raises `NoKafka`, `MissingTopic`."""

    def __init__(
        self, settings: Settings, *, transactional_id: str | None = None, marked: Sequence[str] = (USAGE, PERFORMANCE)
    ) -> None:
        """With a transactional id, rows are appended between `begin` and `end` only. `marked`: topics that markers go to; the idle
        clocks of others go on by the time of day.
        """
        self._marked = marked
        self._prefix = settings.topic_prefix
        self._settings = settings
        self._client = client(settings)
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            transactional_id=transactional_id,
            compression_type="snappy",
            max_batch_size=BATCH_BYTES,
            max_request_size=4 * 1024 * 1024,
            retry_backoff_ms=20,
            **self._client,
        )
        self._partitions: dict[str, int] = {}
        self._of_key: dict[bytes | None, int] = {}
        self._open: dict[tuple[str, int], BatchBuilder] = {}
        self._sent: set[asyncio.Future[Any]] = set()
        self.written = Written()

    async def __aenter__(self) -> Log:
        try:
            await self._producer.start()
        except KafkaConnectionError as error:
            await self._producer.stop()
            raise await unreachable(self._settings) from error
        for topic in self._marked:
            found = await self._producer.partitions_for(self._prefix + topic)
            if not found:
                await self._producer.stop()
                raise MissingTopic(f"topic {self._prefix + topic} does not exist: make it with `uptake topics create`")
            self._partitions[topic] = len(found)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def append(self, rows: Encoded) -> None:
        """Append rows in order; they are on their way, not acknowledged: see `flush`."""
        of_key, counts = self._of_key, self._partitions
        for performance, key, value, headers in zip(
            rows.performance, rows.keys, rows.values, rows.headers, strict=True
        ):
            topic = PERFORMANCE if performance else USAGE
            hashed = of_key.get(key)
            if hashed is None:
                hashed = of_key[key] = (murmur2(key) if key is not None else 0) & 0x7FFFFFFF
            await self._put(topic, hashed % counts[topic], key, value, headers)
            self.written.value_bytes += len(value or b"")
        self.written.rows += len(rows)

    async def mark(self, kind: str, replay: str, at: int, act: bool, products: Sequence[tuple[str, str]] = ()) -> None:
        """Append a replay marker (`begun`, `progressed`, `ended`) to every partition of the marked topics.

        `products`: of `begun`, (tenant, product) of the rows to come.
        """
        common = {
            "type": f"uptake.replay.{kind}",
            "id": f"{replay}-{kind}-{at}",
            "replay": replay,
            "at": at,
            "act": act,
        }
        for start in range(0, max(1, len(products)), PRODUCTS_A_MARKER):
            named = list(products[start : start + PRODUCTS_A_MARKER])
            value = ReplayMarker.model_validate(common | {"products": named}).model_dump_json().encode()
            for topic, count in self._partitions.items():
                for partition in range(count):
                    await self._put(topic, partition, None, value, [])

    async def flush(self) -> None:
        """Wait until everything appended is acknowledged by all in-sync replicas."""
        for place in list(self._open):
            await self._send(place)
        while self._sent:
            self._sent = await acknowledged(self._sent, len(self._sent))

    async def begin(self) -> None:
        """Begin a transaction."""
        await self._producer.begin_transaction()

    async def end(self, *, commit: bool) -> None:
        """Commit everything since `begin`, or take it back: readers of committed rows then never see it."""
        await self.flush()
        if commit:
            await self._producer.commit_transaction()
        else:
            await self._producer.abort_transaction()

    async def _put(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        place = (topic, partition)
        if value is None and key is None:
            raise ValueError("a record needs a key or a value")
        batch = self._open.get(place)
        if batch is None or batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            if batch is not None:
                await self._send(place)
            batch = self._open[place] = self._producer.create_batch()
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                raise ValueError(f"a row of {len(value or b'')} bytes does not fit into a batch")

    async def _send(self, place: tuple[str, int]) -> None:
        topic, partition = place
        batch = self._open.pop(place)
        batch.close()
        self._sent.add(await self._producer.send_batch(batch, self._prefix + topic, partition=partition))
        self._sent = await acknowledged(self._sent, len(self._sent) - IN_FLIGHT)


async def replay(
    log: Log,
    chunks: Iterable[Encoded],
    *,
    name: str,
    start_ms: int,
    end_ms: int,
    disorder_ms: int = 2_000,
    act: bool = False,
    products: Sequence[tuple[str, str]] = (),
    begin: bool = True,
    end: bool = True,
    progress: Callable[[Written, int], None] = lambda written, at: None,
) -> Written:
    """Write a whole run, bracketed by markers. `products`: those of the rows; new ones begin at `start_ms`.

    `progress` is called after each chunk with the event time reached.

    Without `begin`, the caller has marked the begin already; without `end`, idle clocks stay where the last marker put
    them (`end_ms`), so that nothing after the run is ever judged.
    """
    if begin:
        await log.mark("begun", name, start_ms, act, products)
    reached = start_ms
    await log.mark("progressed", name, reached, act)
    for rows in chunks:
        await log.append(rows)
        reached = max(reached, max(rows.at, default=reached))
        await log.mark("progressed", name, reached, act)
        progress(log.written, reached)
        await asyncio.sleep(0)
    await log.mark("progressed", name, end_ms + disorder_ms, act)
    if end:
        await log.mark("ended", name, end_ms, act)
    await log.flush()
    return log.written
