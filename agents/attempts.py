"""One attempt at a delivery: rendered, sent, and its answer read. Whatever goes wrong is an outcome, never an exception."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from agents.rooms import Outside
from core.delivery.attempts import Attempt
from core.effects import Effect, Emit
from integrations.base import RecordRequest
from integrations.hands import BadConnection, Hands, SecretUnavailable
from schemas.definitions import Connection
from schemas.delivery import Delivered, Outcome, Rejected, Retry, SinkRecord

_PATIENCE_S: Final = 5.0
"""What a client may overrun its own timeout by before it is given up."""

log = logging.getLogger(__name__)
Result = tuple[Outcome, list[Effect]]


class Attempts:
    """Makes attempts. `now`: milliseconds."""

    def __init__(self, outside: Outside, hands: Hands, now: Callable[[], int]) -> None:
        self._outside = outside
        self._hands = hands
        self._now = now

    async def make(self, attempt: Attempt) -> Result:
        """What came of it, and what is to be emitted with its receipt."""
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
        request = self._hands.render(attempt.delivery, connection, self._now(), self._outside.reveal)
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
            rendered=self._hands.sketch(delivery, connection, self._now()),
        )
        return Delivered(), [Emit("sink", attempt.lane.encode(), record.model_dump_json().encode())]
