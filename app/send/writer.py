"""Writes rows and the position after them in one Kafka transaction, so that a file arrives exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.structs import OffsetAndMetadata

from app.send.files import Row
from app.settings import Settings

BATCH_BYTES = 1 << 20
LARGEST_ROW = 1_900_000
"""Uncompressed; a larger one Kafka's topics would refuse (2 MiB)."""
ANCHOR = "events.performance"
REMEMBERED_KEYS = 2_000_000

Placed = tuple[str, int, Any]
"""Topic, partition, and aiokafka's batch."""


class Lost(RuntimeError):
    """Another `send` of the same file took over, or Kafka refused; the message names the next move."""


class Placement:
    """Key → partition, as Kafka's Java client and ours place it: murmur2."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._known: dict[bytes, int] = {}

    def __call__(self, key: bytes) -> int:
        """The partition of a key."""
        place = self._known.get(key)
        if place is None:
            if len(self._known) >= REMEMBERED_KEYS:
                self._known.clear()
            place = self._known[key] = (murmur2(key) & 0x7FFFFFFF) % self._partitions
        return place


class Writer:
    """One file's transactional producer. Rows are placed with `put`, taken with `take`, and leave with `commit`."""

    def __init__(self, settings: Settings, made: AIOKafkaProducer, journal: str, counts: dict[str, int]) -> None:
        self._settings = settings
        self._producer = made
        self._group = journal
        self._placements = {topic: Placement(n) for topic, n in counts.items()}
        self._counts = counts
        self._full: list[Placed] = []
        self._open: dict[tuple[str, int], Any] = {}
        self._keyless = 0
        self.anchor = TopicPartition(settings.topic(ANCHOR), 0)
        """Under this partition the position is committed, in a group of the journal's name."""
        self.oversized = 0
        """Rows too large for Kafka, left out."""

    def put(self, rows: Sequence[Row]) -> None:
        """Places rows in the batches of the next commit."""
        for topic, key, value, *_ in rows:
            if len(value) > LARGEST_ROW:
                self.oversized += 1
                continue
            if key is None:
                self._keyless += 1
                place = self._keyless % self._counts[topic]
            else:
                place = self._placements[topic](key)
            self._append(topic, place, key, value)

    def put_everywhere(self, value: bytes) -> None:
        """Places one control record in every partition of the topics, after the rows placed before."""
        for topic, count in self._counts.items():
            for place in range(count):
                self._append(topic, place, None, value)

    def take(self) -> list[Placed]:
        """Everything placed since the last call, to be committed."""
        placed = [*self._full, *((t, p, b) for (t, p), b in self._open.items())]
        self._full, self._open = [], {}
        return placed

    async def commit(self, placed: list[Placed], position: int, note: str = "") -> None:
        """Sends what was taken, and `position`, in one transaction. Raises `Lost`."""
        by_place: dict[tuple[str, int], list[Any]] = {}
        for topic, place, batch in placed:
            by_place.setdefault((topic, place), []).append(batch)
        try:
            async with self._producer.transaction():
                await asyncio.gather(*[self._send(t, p, batches) for (t, p), batches in by_place.items()])
                await self._producer.send_offsets_to_transaction(
                    {self.anchor: OffsetAndMetadata(position, note)}, self._group
                )
        except KafkaError as error:
            raise Lost(
                f"Kafka refused a commit ({type(error).__name__}: {error}). Nothing of it was written; "
                "run the same command again to go on after the last one"
            ) from error

    def _append(self, topic: str, place: int, key: bytes | None, value: bytes) -> None:
        batch = self._open.get((topic, place))
        if batch is None:
            batch = self._open[topic, place] = self._producer.create_batch()
        if batch.append(timestamp=0, key=key, value=value) is None:
            self._full.append((topic, place, batch))
            batch = self._open[topic, place] = self._producer.create_batch()
            batch.append(timestamp=0, key=key, value=value)

    async def _send(self, topic: str, place: int, batches: list[Any]) -> None:
        full = self._settings.topic(topic)
        for batch in batches:
            batch.close()
            await (await self._producer.send_batch(batch, full, partition=place))
