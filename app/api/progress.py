"""How the system runs, seen from Kafka: rows that came in, and how far each role is behind. Sampled when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import BaseModel

from app.settings import ROLES, Settings
from schemas.envelope import Millis
from schemas.topics import TOPICS

FRESH_MS: Final = 1_000
_EVENTS: Final = tuple(t.name for t in TOPICS if t.name.startswith("events."))


class Progress(BaseModel):
    """Rows and lags at one moment."""

    at: Millis
    events: int
    """Rows ever written to `events.*`, as far as the log's offsets tell (control records of transactions included)."""
    events_per_s: float | None
    """Since the sample before; null for the first."""
    lag: dict[str, int | None]
    """Role → rows between its committed positions and the ends of its topics; null: it has committed nothing yet."""


class Watch:
    """Takes samples, at most one a second however many ask."""

    def __init__(
        self, settings: Settings, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, clock: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._admin = admin
        self._clock = clock
        self._last: Progress | None = None
        self._sampling = asyncio.Lock()

    async def progress(self) -> Progress:
        """The newest sample, taken now if the last is older than a second. Raises `KafkaError`."""
        async with self._sampling:
            now = self._clock()
            if self._last is None or self._last.at + FRESH_MS <= now:
                self._last = await self._sample(now, self._last)
            return self._last

    async def reachable(self) -> None:
        """Raises `KafkaError` or `TimeoutError` where the cluster does not answer within two seconds."""
        await asyncio.wait_for(self._consumer.topics(), 2.0)

    async def _sample(self, now: int, before: Progress | None) -> Progress:
        own = {self._settings.topic(name) for name in _EVENTS}
        ends = await self._ends(own)
        events = sum(ends.values())
        rate = None
        if before is not None and now > before.at:
            rate = max(0.0, (events - before.events) * 1000 / (now - before.at))
        lag = {role: await self._lag(role) for role in ROLES}
        return Progress(at=now, events=events, events_per_s=rate, lag=lag)

    async def _lag(self, role: str) -> int | None:
        committed = await self._admin.list_consumer_group_offsets(f"{self._settings.topic_prefix}{role}")
        positions = {p: o.offset for p, o in committed.items() if o.offset >= 0}
        if not positions:
            return None
        ends = await self._consumer.end_offsets(list(positions))
        behind: list[int] = [max(0, ends[p] - positions[p]) for p in positions]
        return sum(behind)

    async def _ends(self, topics: set[str]) -> dict[TopicPartition, int]:
        # The cluster is asked: a consumer knows the partitions of its own topics only, and it has none.
        there = topics & set(await self._admin.list_topics())
        described = await self._admin.describe_topics(list(there)) if there else []
        partitions = [TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
        return await self._consumer.end_offsets(partitions) if partitions else {}
