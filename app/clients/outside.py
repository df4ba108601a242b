"""The way out of the machine, as `agents.rooms.Outside` asks for it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping

from pydantic import JsonValue

from agents.rooms import wall_clock
from app.clients.guard import Guard
from app.clients.http import HttpClient
from app.clients.mail import MailClient
from app.clients.secrets import Secrets
from app.clients.topics import Topics
from app.settings import Settings
from integrations.base import HttpRequest, MailRequest, Request, Response


class Clients:
    """All clients together. Made on the event loop that uses it; `close` when done."""

    def __init__(
        self,
        guard: Guard,
        secrets: Secrets,
        topic_exists: Callable[[str], Awaitable[bool]],
        now: Callable[[], int] = wall_clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._secrets = secrets
        self._topic_exists = topic_exists
        self._now = now
        self._http = HttpClient(guard, now, tls)
        self._mail = MailClient(guard, now, tls)

    @classmethod
    def from_settings(cls, settings: Settings) -> Clients:
        """As the operator set it."""
        return cls(
            Guard(settings.allowed_hosts),
            Secrets(os.environ, settings.secret_env_prefix, settings.secret_dir),
            Topics(settings, wall_clock).exists,
        )

    async def send(self, request: Request) -> Response:
        """One attempt; see `agents.rooms.Outside`."""
        if isinstance(request, HttpRequest):
            return await self._http.send(request)
        if isinstance(request, MailRequest):
            return await self._mail.send(request)
        if await self._topic_exists(request.topic):
            return Response(status=200, at=self._now())
        return Response(status=0, at=self._now(), failure="no_topic")

    def reveal(self, reference: Mapping[str, JsonValue]) -> str:
        """A secret, by its reference."""
        return self._secrets.reveal(reference)

    async def close(self) -> None:
        """Close what is open."""
        await self._http.close()
        self._guard.close()
