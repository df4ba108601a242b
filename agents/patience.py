"""Patience: an agent whose store is away tries again, and says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agents.rooms import Rooms, Unavailable
from core.effects import Observe

log = logging.getLogger(__name__)


class Patience:
    """Waits for a read model (or an archive) that is gone, locked or full. Its role falls behind meanwhile and catches up; no
    other does.
    """

    def __init__(
        self,
        rooms: Rooms,
        what: str = "read model",
        metric: str = "uptake_read_model_up",
        labels: tuple[str, ...] = ("project",),
        pauses_s: Sequence[float] = (0.1, 0.5, 2.0, 5.0, 10.0),
    ) -> None:
        self._rooms, self._what, self._metric, self._labels = rooms, what, metric, labels
        self._pauses_s = pauses_s
        self._since: int | None = None
        self._why = ""

    def degraded(self) -> dict[str, str]:
        """What `/readyz` shows of it."""
        if self._since is None:
            return {}
        return {self._what: f"unavailable for {(self._rooms.now() - self._since) // 1_000} s: {self._why}"}

    async def until_done(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Do it, however often it takes: whoever waits here holds one batch, and its partitions are no longer fetched."""
        tries = 0
        while not await self.once(work):
            await asyncio.sleep(self._pauses_s[min(tries, len(self._pauses_s) - 1)])
            tries += 1

    async def once(self, work: Callable[[], Awaitable[Any]]) -> bool:
        """Do it; False where it is unavailable."""
        try:
            await work()
        except Unavailable as error:
            if self._since is None:
                log.error("the %s is unavailable, trying again: %s", self._what, error)
                self._since = self._rooms.now()
            self._why = str(error)
            self._rooms.wires.measure([Observe(self._metric, 0, self._labels)])
            return False
        if self._since is not None:
            log.info("the %s answers again", self._what)
        self._since = None
        self._rooms.wires.measure([Observe(self._metric, 1, self._labels)])
        return True
