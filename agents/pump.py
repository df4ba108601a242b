"""The pump: takes attempts that are due from the DELIVER tasks, makes them, and hands the outcomes back.

Bounded: each connection by its own concurrency (`core.delivery.lanes`), all together by `limit`. A delivery that waits costs
nothing here: it is a row of its task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from agents.rooms import Outside, Rooms
from core.delivery.breaker import State
from core.delivery.deliver import Attempt, DeliverTask
from core.effects import Effect, Emit, Observe
from core.task import TaskSpec
from integrations.base import RecordRequest
from integrations.hands import BadConnection, Hands, SecretUnavailable
from schemas.definitions import Connection
from schemas.delivery import Delivered, Outcome, Rejected, Retry, SinkRecord

LIMIT: Final = 4_096
"""Attempts in the air at once in one process, a socket each at most."""
_LOOK_S: Final = 0.25
"""How often to look when nothing calls: a pause takes effect within this."""
_PATIENCE_S: Final = 5.0
"""What a client may overrun its own timeout by before it is given up."""

_FIGURE: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}

log = logging.getLogger(__name__)
Result = tuple[Outcome, list[Effect]]


class Pump:
    """Runs beside the agent, on the same event loop as its tasks."""

    def __init__(self, rooms: Rooms, spec: TaskSpec, hands: Hands | None = None, limit: int = LIMIT) -> None:
        if rooms.outside is None:
            raise ValueError("the role deliver needs rooms.outside: give it app.clients.Clients")
        self._rooms = rooms
        self._outside: Outside = rooms.outside
        self._spec = spec
        self._hands = hands or Hands()
        self._limit = limit
        self._called = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._shown: dict[str, State] = {}
        self._parked: dict[int, set[str]] = {}
        """By partition, the integrations whose parked deliveries were told."""

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
            self._show_breakers()
            self._clear_parked()
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

    def _show_breakers(self) -> None:
        """As a gauge of this process: a connection whose partition has gone elsewhere is closed here."""
        found = {name: breaker.state for task in self._tasks() for name, breaker in task.breakers.items()}
        if found != self._shown:
            gone: dict[str, State] = dict.fromkeys(self._shown.keys() - found.keys(), "closed")
            self._rooms.wires.measure(
                Observe("uptake_breaker_state", _FIGURE[state], (name,)) for name, state in (found | gone).items()
            )
            self._shown = found

    def _clear_parked(self) -> None:
        """What waits in a partition that has gone elsewhere is the next owner's to tell."""
        live = {task.partition: set(task.parked) for task in self._tasks()}
        self._rooms.wires.measure(
            Observe("uptake_parked", 0, (integration, str(partition)))
            for partition in self._parked.keys() - live.keys()
            for integration in sorted(self._parked[partition])
        )
        self._parked = live

    def _tasks(self) -> Iterable[DeliverTask]:
        return [task for task in self._rooms.wires.live(self._spec) if isinstance(task, DeliverTask)]

    async def _make(self, task: DeliverTask, attempt: Attempt) -> None:
        started = asyncio.get_running_loop().time()
        outcome, also = await self._try(attempt)
        took_ms = 1_000 * (asyncio.get_running_loop().time() - started)
        effects = task.finished(attempt, outcome, self._rooms.now(), took_ms=took_ms, also=also)
        self._rooms.wires.hold(task, effects)
        self.wake()

    async def _try(self, attempt: Attempt) -> Result:
        connection = attempt.connection
        if connection is None:
            return Rejected(reason="connection_retired"), []
        try:
            return self._sandbox(attempt, connection) if attempt.sandboxed else await self._send(attempt, connection)
        except BadConnection as error:
            return Rejected(reason=f"bad_connection: {error}"), []
        except SecretUnavailable as error:
            return Retry(reason=f"secret_unavailable: {error}"), []
        except Exception as error:
            # A fault of an integration must not stop the others; its message may hold a secret, so its kind must do.
            log.error("integration %s failed: %s", connection.integration, type(error).__name__)
            return Rejected(reason=f"integration_failed: {type(error).__name__}"), []

    async def _send(self, attempt: Attempt, connection: Connection) -> Result:
        request = self._hands.render(attempt.delivery, connection, self._rooms.now(), self._outside.reveal)
        if connection.deadline_s is not None and connection.deadline_s < request.timeout_s:
            request = replace(request, timeout_s=connection.deadline_s)
        try:
            async with asyncio.timeout(request.timeout_s + _PATIENCE_S):
                response = await self._outside.send(connection.tenant, request)
        except TimeoutError:
            return Retry(reason="timeout"), []
        outcome = self._hands.interpret(connection, response)
        if not isinstance(request, RecordRequest):
            return outcome, []
        return outcome, [Emit(request.topic, request.key, request.value, headers=request.headers)]

    def _sandbox(self, attempt: Attempt, connection: Connection) -> Result:
        delivery = attempt.delivery
        record = SinkRecord(
            delivery=delivery.id,
            connection=delivery.connection,
            integration=delivery.integration,
            sandboxed=True,
            command=delivery.command,
            rendered=self._hands.sketch(delivery, connection, self._rooms.now()),
        )
        return Delivered(), [Emit("sink", attempt.lane.encode(), record.model_dump_json().encode())]
