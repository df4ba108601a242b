"""The pump: takes attempts that are due from the DELIVER tasks, has them made, and hands the outcomes back.

Bounded: each connection by its own concurrency (`core.delivery.lanes`), all together by `limit`. A delivery that waits costs
nothing here: it is a row of its task.
"""

from __future__ import annotations

import asyncio
from typing import Final

from agents.attempts import Attempts
from agents.rooms import Rooms
from agents.standing import Standing
from core.delivery.attempts import Attempt
from core.delivery.deliver import DeliverTask
from core.task import TaskSpec
from integrations.hands import Hands

LIMIT: Final = 4_096
"""Attempts in the air at once in one process, a socket each at most."""
_LOOK_S: Final = 0.25
"""How often to look when nothing calls: a pause takes effect within this."""


class Pump:
    """Runs beside the agent, on the same event loop as its tasks."""

    def __init__(self, rooms: Rooms, spec: TaskSpec, hands: Hands | None = None, limit: int = LIMIT) -> None:
        if rooms.outside is None:
            raise ValueError("the role deliver needs rooms.outside: give it app.clients.Clients")
        self._rooms = rooms
        self._spec = spec
        self._limit = limit
        self._attempts = Attempts(rooms.outside, hands or Hands(), rooms.now)
        self._standing = Standing(rooms.wires)
        self._called = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def flying(self) -> int:
        """Attempts in the air."""
        return len(self._flying)

    def wake(self) -> None:
        """Look now: rows arrived, or an attempt ended."""
        self._called.set()

    def degraded(self) -> dict[str, str]:
        """Connection → how its breaker stands, of those that do not work."""
        return {
            f"connection {name}": f"breaker {breaker.state}"
            for task in self._tasks()
            for name, breaker in task.breakers.items()
        }

    async def run(self) -> None:
        """Pump until stopped."""
        while not self._stopping:
            self._called.clear()
            wait_s = self._start_due()
            self._standing.show(self._tasks())
            try:
                async with asyncio.timeout(wait_s):
                    await self._called.wait()
            except TimeoutError:
                continue

    async def stop(self, grace_s: float = 10.0) -> None:
        """Start nothing more, and wait this long for what is in the air; the rest stays a row, to be tried again."""
        self._stopping = True
        self.wake()
        if self._flying:
            _, late = await asyncio.wait(self._flying, timeout=grace_s)
            for task in late:
                task.cancel()

    def _start_due(self) -> float:
        now = self._rooms.now()
        next_at = now + int(1_000 * _LOOK_S)
        for task in self._tasks():
            for attempt in task.due(now, self._limit - len(self._flying)):
                made = asyncio.create_task(self._make(task, attempt))
                self._flying.add(made)
                made.add_done_callback(self._flying.discard)
            at = task.next_at(now)
            next_at = next_at if at is None else min(next_at, at)
        return max(0.005, (next_at - now) / 1_000)

    def _tasks(self) -> list[DeliverTask]:
        return [task for task in self._rooms.wires.live(self._spec) if isinstance(task, DeliverTask)]

    async def _make(self, task: DeliverTask, attempt: Attempt) -> None:
        started = asyncio.get_running_loop().time()
        outcome, also = await self._attempts.make(attempt)
        took_ms = 1_000 * (asyncio.get_running_loop().time() - started)
        effects = task.finished(attempt, outcome, self._rooms.now(), took_ms=took_ms, also=also)
        self._rooms.wires.hold(task, effects)
        self.wake()
