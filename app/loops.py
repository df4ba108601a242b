"""The event loops that our processes run on: uvloop where it is, and neither waits long for a TLS peer to say goodbye."""

from __future__ import annotations

import asyncio
import asyncio.constants
from typing import Any

GOODBYE_S = 1.0
"""Kafka hangs up without TLS's closing message when a fetch is open; by default each closing client waits 30 s for it."""

try:
    import uvloop
except ImportError:  # Windows
    LOOP: type[asyncio.AbstractEventLoop] | None = None
else:

    class _Loop(uvloop.Loop):
        async def create_connection(self, *arguments: Any, **options: Any) -> Any:
            """As uvloop's, with our patience."""
            if options.get("ssl"):
                options.setdefault("ssl_shutdown_timeout", GOODBYE_S)
            return await super().create_connection(*arguments, **options)

    LOOP = _Loop
"""For `asyncio.Runner(loop_factory=LOOP)`."""


def impatient() -> None:
    """The same for loops that others make: Faust fetches in a thread with one of asyncio's own."""
    vars(asyncio.constants)["SSL_SHUTDOWN_TIMEOUT"] = GOODBYE_S
