"""Processes of single roles, made as `uptake worker` makes them: by fork from one server a test session, not by importing anew."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import signal
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from app.forked import Forked, ForkServer
from app.roles import AGENTS, imports
from app.settings import Role, Settings

T = TypeVar("T")


class Process:
    """One role's process, with the face of `asyncio.subprocess.Process`, on whatever loop it is used."""

    def __init__(self, server: _Server, forked: Forked) -> None:
        self._server, self._forked = server, forked

    @property
    def pid(self) -> int:
        return self._forked.pid

    @property
    def returncode(self) -> int | None:
        return self._forked.returncode

    def send_signal(self, number: int) -> None:
        self._forked.send_signal(number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.wrap_future(self._server.later(self._forked.wait()))


class _Server:
    """The fork server's client, on a loop of its own: each test has another."""

    def __init__(self) -> None:
        modules = dict.fromkeys(name for role in AGENTS for name in imports(role))
        self._forks = ForkServer(list(modules))
        self._loop = asyncio.new_event_loop()
        self._heard: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="roles").start()
        atexit.register(lambda: self.later(self._forks.stop()).result(10))

    def later(self, work: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def fork(self, role: Role, slot: int, environment: Mapping[str, str]) -> Process:
        forked = await self._forks.fork("app.process", [role, str(slot)], environment)
        listening = asyncio.ensure_future(_listen(forked))
        self._heard.add(listening)
        listening.add_done_callback(self._heard.discard)
        return Process(self, forked)


async def _listen(forked: Forked) -> None:
    """What it says there is in its log, too; unread it would stand still one day."""
    assert forked.stderr is not None
    while await forked.stderr.read(1 << 16):
        pass


@functools.cache
def _server() -> _Server:
    return _Server()


async def start(settings: Settings, role: Role, slot: int = 0, **environment: str) -> Process:
    """A process of the role. `environment`: beside the settings' and this process's own."""
    around = {**os.environ, **settings.environment(), **environment}
    return await asyncio.wrap_future(_server().later(_server().fork(role, slot, around)))
