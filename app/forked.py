"""Processes made by a fork server (`app.forkserver`), with the face that `asyncio.subprocess` gives to its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import orjson

from app.forkserver import MESSAGE_BYTES

USABLE = sys.platform == "linux"
"""Whether fork is safe with what workers import, and pidfds are there."""
LOST = 1
"""Exit code of a process whose fork server died: nobody knows the real one."""


class ForkServerGone(RuntimeError):
    """The fork server ended; the next `fork` starts a new one."""


class Forked:
    """One process. Its fork server tells of its end; if that server is gone, the process ends too, and counts as failed."""

    def __init__(self, pid: int, pidfd: int, stderr: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stderr: asyncio.StreamReader | None = stderr
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._end = asyncio.Event()

    async def wait(self) -> int:
        """Its exit code; where a signal ended it, minus the signal's number."""
        await self._end.wait()
        return self.returncode if self.returncode is not None else LOST

    def send_signal(self, number: int) -> None:
        """Raises `ProcessLookupError` where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError(self.pid)
        signal.pidfd_send_signal(self._pidfd, number)

    def ended(self, code: int) -> None:
        """Called by its server's link, once."""
        self.returncode = code
        os.close(self._pidfd)
        self._end.set()

    def orphaned(self) -> None:
        """Its server is gone, and with it the exit code: it ends when it has seen that."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self._pidfd)
            self.ended(LOST)

        loop.add_reader(self._pidfd, gone)


@dataclass(frozen=True, slots=True)
class _Order:
    answer: asyncio.Future[Forked | None]
    stderr: asyncio.StreamReader | None


class ForkServer:
    """Makes processes of the modules it was given. Started by the first `fork`; `stop` ends it."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = list(modules)
        self._server: asyncio.subprocess.Process | None = None
        self._link: socket.socket | None = None
        self._numbers = count(1)
        self._orders: dict[int, _Order] = {}
        self._children: dict[int, Forked] = {}
        self._starting = asyncio.Lock()

    async def fork(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
        """A process that runs `module.main()` with these arguments and nothing but this environment, in a session of its own.

        Raises `ForkServerGone` where the server ends before it has answered.
        """
        async with self._starting:
            if self._link is None:
                await self._start()
        link = self._link
        if link is None:
            raise ForkServerGone("it ended while it was started")
        number = next(self._numbers)
        order = {"number": number, "module": module, "arguments": list(arguments), "environment": dict(environment)}
        ours, its = socket.socketpair()
        with its:
            answer = self._order(number, await reader_of(ours))
            try:
                socket.send_fds(link, [orjson.dumps(order)], [its.fileno()])
            except OSError:
                self._lost()
        made = await answer
        assert made is not None
        return made

    async def stop(self) -> None:
        """Ends the server. Processes of it that still run see that and end by themselves."""
        server = self._server
        self._lost()
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                server.terminate()
            await server.wait()

    async def _start(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ready = self._order(0, None)
        with its:
            self._server = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app.forkserver", str(its.fileno()), *self._modules,
                pass_fds=[its.fileno()], stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._link = ours
        asyncio.get_running_loop().add_reader(ours, self._heard)
        await ready

    def _heard(self) -> None:
        if self._link is None:
            return
        try:
            text, fds, _, _ = socket.recv_fds(self._link, MESSAGE_BYTES, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            text, fds = b"", []
        if not text:
            self._lost()
            return
        told = orjson.loads(text)
        number = told["number"]
        if "code" in told:
            if (child := self._children.pop(number, None)) is not None:
                child.ended(told["code"])
            return
        order = self._orders.pop(number)
        made = None
        if order.stderr is not None:
            made = self._children[number] = Forked(told["pid"], fds[0], order.stderr)
        if not order.answer.done():
            order.answer.set_result(made)
        elif made is not None:
            made.send_signal(signal.SIGTERM)  # who asked for it has gone away meanwhile

    def _order(self, number: int, stderr: asyncio.StreamReader | None) -> asyncio.Future[Forked | None]:
        answer: asyncio.Future[Forked | None] = asyncio.get_running_loop().create_future()
        self._orders[number] = _Order(answer, stderr)
        return answer

    def _lost(self) -> None:
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link)
            self._link.close()
        self._link = self._server = None
        orders, self._orders = self._orders, {}
        for order in orders.values():
            if not order.answer.done():
                order.answer.set_exception(ForkServerGone("the fork server ended before it answered"))
        children, self._children = self._children, {}
        for child in children.values():
            child.orphaned()


async def reader_of(ours: socket.socket) -> asyncio.StreamReader:
    """What comes through it. Not a pipe: uvloop closes a pipe's file descriptor twice, and the second time it may be another's."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().create_unix_connection(lambda: _Reading(reader), sock=ours)
    return reader


class _Reading(asyncio.StreamReaderProtocol):
    """Closes when the other side has."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False
