"""Which topics exist. A record for a topic that is not there would stop the whole partition's checkpoint, so it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka.errors import KafkaError

from app.kafka import NoKafka, admin
from app.settings import Settings

_FRESH_MS = 30_000


class Topics:
    """Asks the cluster, at most once in half a minute and for a name it has not seen."""

    def __init__(self, settings: Settings, now: Callable[[], int]) -> None:
        self._settings = settings
        self._now = now
        self._known: frozenset[str] = frozenset()
        self._asked_at = -_FRESH_MS
        self._missing: dict[str, int] = {}
        self._asking = asyncio.Lock()

    async def exists(self, topic: str) -> bool:
        """Whether the topic (without prefix) is there. False too where the cluster does not answer."""
        name = self._settings.topic(topic)
        now = self._now()
        if name in self._known and now - self._asked_at < _FRESH_MS:
            return True
        if now < self._missing.get(name, 0):
            return False
        async with self._asking:
            if name not in self._known or self._now() - self._asked_at >= _FRESH_MS:
                await self._ask()
        if name in self._known:
            self._missing.pop(name, None)
            return True
        self._missing[name] = self._now() + 1_000
        return False

    async def _ask(self) -> None:
        try:
            async with admin(self._settings) as made:
                self._known = frozenset(await made.list_topics())
                self._asked_at = self._now()
        except (KafkaError, NoKafka, OSError):
            self._known = frozenset()
