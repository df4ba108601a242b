"""How much memory workers take at their most, looked at from outside.

`getrusage` does not say it: Linux counts to a child what its parent had resident when it was made, so a small worker of a large
parent would be as large as its parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import psutil

from app.worker import Child

LOOK_S: Final = 0.1


class Peaks:
    """Looks ten times a second at the processes that `children` names then, whichever these are. Use as an async context manager."""

    def __init__(self, children: Callable[[], Iterable[Child]]) -> None:
        self._children = children
        self._watching: asyncio.Task[None] | None = None
        self.mb: dict[str, float] = {}
        """Resident memory at its most, by child, of all its processes one after the other."""

    def look(self) -> None:
        """Once."""
        for child in self._children():
            process = child.process
            if process is None or process.returncode is not None:
                continue
            try:
                resident = psutil.Process(process.pid).memory_info().rss / (1 << 20)
            except psutil.Error:
                continue  # it has ended meanwhile
            self.mb[child.name] = max(self.mb.get(child.name, 0.0), resident)

    async def __aenter__(self) -> Peaks:
        self._watching = asyncio.create_task(self._watch(), name="peaks")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)
