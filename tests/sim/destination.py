"""Those whom DELIVER sends to: they live outside the cluster, survive every worker, and remember what came to them.

For the first seconds they fail, ask for patience, hang and lose answers; what is asked for once has arrived, whether the worker
that asked lives to hear of it or not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import JsonValue

from integrations.base import HttpRequest, Request, Response
from tests.sim.net import Glitch, Net

BAD_UNTIL_S = 6.0
SLOW_S = 0.15
SECRET = "whsec_ZXhhbXBsZS1zZWNyZXQtb2YtdXB0YWtlLTAwMDE="


class Arrival(NamedTuple):
    """One request that came."""

    connection: str
    id: str
    """As `webhook-id` says: by it receivers tell a repeat from another order."""
    command: str
    status: int
    """What was answered, whether it was heard or not."""


class Destination:
    """All addresses; `agents.rooms.Outside`."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.net: Net

    async def send(self, owner: str, request: Request) -> Response:
        """As `Outside.send`: never raises, and may outlast its time."""
        assert isinstance(request, HttpRequest)
        loop = self.net.loop
        draw = loop.random.random()
        bad = loop.now < BAD_UNTIL_S
        if bad and draw < 0.04:
            await loop.create_future()  # hangs: the caller's own deadline ends it
        try:
            status = await self.net.call(self._take, request, draw if bad else 1.0)
        except Glitch:
            return self._response(0, failure="protocol")
        await asyncio.sleep(loop.random.expovariate(1 / SLOW_S))
        if bad and 0.04 <= draw < 0.12:
            return self._response(0, failure="timeout")
        return self._response(status)

    def reveal(self, owner: str, reference: Mapping[str, JsonValue]) -> str:
        return SECRET

    def _take(self, request: HttpRequest, draw: float) -> int:
        command = json.loads(request.body)["data"]
        status = 503 if 0.12 <= draw < 0.3 else 429 if 0.3 <= draw < 0.35 else 200
        if status == 200 and command["payload"].get("refused"):
            status = 422
        name = urlsplit(request.url).path.strip("/")
        self.arrivals.append(Arrival(name, request.headers["webhook-id"], command["id"], status))
        return status

    def _response(self, status: int, failure: str | None = None) -> Response:
        headers = {"retry-after": "1"} if status == 429 else {}
        return Response(status, int(self.net.loop.wall() * 1000), headers, failure=failure)  # type: ignore[arg-type]
