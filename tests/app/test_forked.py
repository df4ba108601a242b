"""Processes made by fork: what they are given, how they end, and what happens when their server dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio
import uvloop

from app.forked import USABLE, Forked, ForkServer, ForkServerGone, reader_of
from app.forkserver import PARENT
from app.kafka import settle
from app.roles import AGENTS, imports
from app.settings import ROLES
from app.worker import Child, Supervisor

pytestmark = pytest.mark.skipif(not USABLE, reason="forks are used on Linux only")
MODULE = "tests.helpers.forkable"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ForkServer]:
    server = ForkServer([MODULE])
    yield server
    await server.stop()


async def _words(process: Forked) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()


async def test_a_fork_has_its_arguments_its_environment_and_its_session(server: ForkServer) -> None:
    one, two = await asyncio.gather(
        server.fork(MODULE, ["say", "a", "b c"], {"ONLY": "this ü"}), server.fork(MODULE, ["say"], {"ONLY": "that"})
    )
    told = json.loads(await _words(one))
    parent = told["environment"].pop(PARENT)
    assert told == {"rest": ["a", "b c"], "environment": {"ONLY": "this ü"}, "leader": True}
    other = json.loads(await _words(two))
    assert other["environment"] == {"ONLY": "that", PARENT: parent}
    assert [await one.wait(), await two.wait()] == [0, 0]


@pytest.mark.parametrize("code", [0, 1, 3, 75])
async def test_the_exit_code_arrives(server: ForkServer, code: int) -> None:
    process = await server.fork(MODULE, ["end", str(code)], {})
    assert await process.wait() == code == process.returncode
    with pytest.raises(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_is_an_end_below_zero(server: ForkServer, number: signal.Signals) -> None:
    process = await server.fork(MODULE, ["live"], {})
    process.send_signal(number)
    assert await process.wait() == -number


async def test_what_a_module_raises_is_told_on_stderr(server: ForkServer) -> None:
    process = await server.fork(MODULE, ["end", "no number"], {})
    assert "invalid literal" in await _words(process)
    assert await process.wait() == 1
    assert await (await server.fork(MODULE, ["end", "4"], {})).wait() == 4


async def test_processes_end_with_their_server_and_the_next_fork_starts_a_new_one(server: ForkServer) -> None:
    process = await server.fork(MODULE, ["live"], {})
    said = await server.fork(MODULE, ["say"], {})
    os.kill(int(json.loads(await _words(said))["environment"][PARENT]), signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), 30) == 1
    assert await (await server.fork(MODULE, ["end", "5"], {})).wait() == 5


async def test_a_server_that_cannot_import_says_that_it_is_gone() -> None:
    server = ForkServer(["no.such.module"])
    with pytest.raises(ForkServerGone, match="ended before it answered"):
        await server.fork(MODULE, ["say"], {})
    await server.stop()


async def test_a_supervisor_keeps_forks_alive_as_it_does_other_processes(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", MODULE, "live"]
    supervisor = Supervisor([Child("f", argv, {}, tmp_path / "f.log", preload=[MODULE])], lambda name, text: None)
    supervisor.start()
    one = supervisor.children[0]
    for times in range(1, 4):
        assert await settle(lambda n=times: one.starts == n and one.process is not None, within_s=60)
        assert isinstance(one.process, Forked)
        one.process.send_signal(signal.SIGKILL)
    assert await settle(lambda: one.starts == 4, within_s=60)
    await supervisor.stop()
    assert one.process is not None and one.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_imports_are_its_agents_and_the_process(role: str) -> None:
    names = imports(role)  # type: ignore[arg-type]
    assert names[0] == "app.process" and {f"agents.{name}" for name in AGENTS[role]} <= set(names)  # type: ignore[index]


class _Watched(socket.socket):
    """Keeps what was closed that was closed already: the number may be another thread's by then."""

    again: ClassVar[list[int]] = []

    def close(self) -> None:
        number = self.fileno()
        if number >= 0:
            try:
                os.fstat(number)
            except OSError:
                self.again.append(number)
        super().close()


def test_the_end_of_a_stderr_closes_its_descriptor_once_under_uvloop() -> None:
    async def to_the_end() -> None:
        ours, its = socket.socketpair()
        watched = _Watched(fileno=ours.detach())
        number = watched.fileno()
        reader = await reader_of(watched)
        its.sendall(b"last words")
        its.close()
        assert await reader.read() == b"last words"
        assert await settle(lambda: watched.fileno() < 0, within_s=20)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    _Watched.again.clear()
    uvloop.run(to_the_end())
    assert _Watched.again == []
