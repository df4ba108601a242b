"""A real HTTP server in the test's own loop, whose answers the test decides."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    abort: Callable[[], None] = lambda: None
    """Resets the connection."""


Answer = Callable[[Seen], Awaitable[web.StreamResponse] | web.StreamResponse]


@dataclass(slots=True)
class WebServer:
    """Where it is and what it has seen."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    scheme: str = "http"

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[WebServer]:
    """Answers every request with `answer`, for the length of the block."""
    server = WebServer(0, scheme="https" if tls else "http")

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        seen = Seen(request.method, request.path, headers, await request.read(), transport.abort)
        server.seen.append(seen)
        given = answer(seen)
        return given if isinstance(given, web.StreamResponse) else await given

    app = web.Application(client_max_size=8 << 20)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
