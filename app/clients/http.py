"""One HTTP attempt: connections are kept and shared, redirects are not followed, errors are values."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from app.clients.guard import Blocked, Guard
from integrations.base import Failure, HttpRequest, Response

BODY_LIMIT = 64 * 1024
"""Bytes of an answer that are read; nobody needs more to know what it meant."""


class HttpClient:
    """Sends `HttpRequest`s. No limit of its own on concurrency: each connection has one."""

    def __init__(self, guard: Guard, now: Callable[[], int], tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._now = now
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: HttpRequest) -> Response:
        """One attempt, within the request's timeout. Never raises but for cancellation."""
        try:
            # The very host that the connector will see: two parsers of one URL may read two hosts, and a host in letters
            # beyond ASCII (`１２７.0.0.1`) may become an address, for which no resolver is asked.
            url = URL(request.url)
            self._guard.check_literal(url.host or "")
            async with self._open().request(
                request.method,
                url,
                data=request.body,
                headers={**request.headers, "accept-encoding": "identity"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=request.timeout_s),
            ) as answer:
                body = await _head(answer)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(status=answer.status, at=self._now(), headers=headers, body=body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return Response(status=0, at=self._now(), failure=failure_of(error))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, resolver=_Resolver(self._guard), ssl=True if self._tls is None else self._tls
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session


class _Resolver(AbstractResolver):
    """Gives the connector allowed addresses only, so that what was checked is what is connected to."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=endpoint.address,
                port=port,
                family=endpoint.family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for endpoint in await self._guard.endpoints(host, port, family)
        ]

    async def close(self) -> None:
        """The guard's threads belong to the guard."""


def failure_of(error: BaseException) -> Failure:
    """Which kind of failure an error is. Looks behind the client's own wrapping."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Blocked):
            return "blocked"
        if isinstance(cause, ssl.SSLError | aiohttp.ClientSSLError):
            return "tls"
        if isinstance(cause, socket.gaierror):
            return "dns"
        cause = getattr(cause, "os_error", None) or cause.__cause__
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect"
    return "connect" if isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError) else "protocol"


async def _head(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size >= BODY_LIMIT:
            answer.close()
            break
    return b"".join(parts)[:BODY_LIMIT]
