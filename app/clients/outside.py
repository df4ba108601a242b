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
from app.clients.reach import Reach
from app.clients.secrets import Secrets
from app.clients.topics import Topics
from app.settings import TENANT_TOPICS, Settings
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
        tenant_topics: str = TENANT_TOPICS,
    ) -> None:
        self._guard = guard
        self._secrets = secrets
        self._topic_exists = topic_exists
        self._reach = Reach(secrets, tenant_topics)
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
            tenant_topics=settings.tenant_topics,
        )

    async def send(self, owner: str, request: Request) -> Response:
        """One attempt; see `agents.rooms.Outside`."""
        if isinstance(request, HttpRequest):
            return await self._http.send(request)
        if isinstance(request, MailRequest):
            return await self._mail.send(request)
        if not self._reach.may_write(owner, request.topic):
            return Response(status=0, at=self._now(), failure="blocked")
        if await self._topic_exists(request.topic):
            return Response(status=200, at=self._now())
        return Response(status=0, at=self._now(), failure="no_topic")

    def reveal(self, owner: str, reference: Mapping[str, JsonValue]) -> str:
        """A secret, by its reference; see `app.clients.secrets`."""
        return self._secrets.reveal(owner, reference)

    async def close(self) -> None:
        """Close what is open."""
        await self._http.close()
        self._guard.close()
