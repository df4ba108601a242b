"""The supervisor: one process a role (or more), started again with back-off, ended together."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.forked import USABLE, Forked, ForkServer, ForkServerGone
from app.forkserver import PARENT
from app.roles import imports
from app.settings import ROLES, Role, Settings

UNREACHABLE = 3
"""Exit code of a child that found no Kafka."""
AGAIN = 75
"""Exit code of a child that wants to be started again at once, because its configuration changed."""
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 15.0
HEALTHY_AFTER_S = 20.0
"""A process that ran this long starts with a fresh back-off."""
DEATHS_ALLOWED = 6
"""Deaths in a row, each before it was healthy, after which the supervisor gives up."""
STOP_WITHIN_S = 25.0


class WorkerFailed(RuntimeError):
    """A process keeps dying; the message names its log and its last words."""


@dataclass(slots=True)
class Child:
    """One process to keep alive."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    preload: Sequence[str] = ()
    """What a fork server imports for it; `argv` is then `[python, "-m", MODULE, …]`. Empty: it is an interpreter of its own."""
    essential: bool = True
    """Whether everything ends when it keeps dying, or when it ends by itself with code 0."""
    process: asyncio.subprocess.Process | Forked | None = None
    starts: int = 0
    last_words: str = ""
    unwanted: bool = False
    """It was taken away: its end is not a death."""
    slot: IO[str] | None = field(default=None, repr=False)
    """Open file whose lock keeps the slot ours."""


class Supervisor:
    """Keeps children alive on the running event loop."""

    def __init__(self, children: Iterable[Child], told: Callable[[str, str], None] | None = None) -> None:
        self.children = list(children)
        self._told = told if told is not None else _to_stderr
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._forks = ForkServer(sorted({name for child in self.children for name in child.preload}))

    def start(self) -> None:
        """Starts every child."""
        self._tasks = [asyncio.create_task(self._keep(child), name=child.name) for child in self.children]

    async def wait(self) -> None:
        """Until all children ended, or one keeps dying: then `WorkerFailed`."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """SIGTERM to all, SIGKILL to who is still there after 25 s."""
        self._stopping.set()
        for child in self.children:
            _signal(child, signal.SIGTERM)
        running = [child.process.wait() for child in self.children if child.process is not None]
        if running:
            _, late = await asyncio.wait([asyncio.ensure_future(w) for w in running], timeout=STOP_WITHIN_S)
            if late:
                for child in self.children:
                    _signal(child, signal.SIGKILL)
                await asyncio.wait(late)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._forks.stop()

    def add(self, child: Child) -> None:
        """Starts one more child, beside those that run."""
        self.children.append(child)
        self._tasks.append(asyncio.create_task(self._keep(child), name=child.name))

    async def remove(self, child: Child) -> None:
        """Ends one child for good, as `stop` ends all; the others go on. Its slot is free again."""
        child.unwanted = True
        _signal(child, signal.SIGTERM)
        if child.process is not None:
            try:
                await asyncio.wait_for(child.process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                _signal(child, signal.SIGKILL)
                await child.process.wait()
        keeping = [task for task in self._tasks if task.get_name() == child.name]
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        self._tasks = [task for task in self._tasks if task not in keeping]
        self.children.remove(child)
        if child.slot is not None:
            child.slot.close()

    async def _keep(self, child: Child) -> None:
        backoff, deaths, was_healthy = FIRST_BACKOFF_S, 0, False
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run(child)
            if self._stopping.is_set() or child.unwanted:
                return
            if code == AGAIN:
                continue
            if code == 0 and not child.essential:
                return
            healthy = time.monotonic() - began > HEALTHY_AFTER_S
            was_healthy = was_healthy or healthy
            if healthy or code == -signal.SIGKILL:
                # Killed from outside says nothing about the process itself.
                backoff, deaths = FIRST_BACKOFF_S, 0
            elif code != UNREACHABLE or not was_healthy:
                # A Kafka that was there and is away comes back some day: that is waited for, however long it takes.
                deaths += 1
            if deaths >= DEATHS_ALLOWED:
                raise WorkerFailed(
                    f"{child.name} keeps ending (exit code {code}): {child.last_words or 'it said nothing'}. "
                    f"Its log: {child.log}"
                )
            self._told(child.name, f"ended with code {code}, starting again in {backoff:.1f} s")
            try:
                await asyncio.wait_for(self._stopping.wait(), backoff)
            except TimeoutError:
                backoff = min(backoff * 2, LONGEST_BACKOFF_S)

    async def _run(self, child: Child) -> int:
        try:
            process = child.process = await self._made(child)
        except ForkServerGone as error:
            child.last_words = str(error)
            return 1
        child.starts += 1
        if process.stderr is not None:
            async for line in process.stderr:
                if text := line.decode(errors="replace").strip():
                    child.last_words = text.removeprefix(f"{child.name} | ")
                    self._told(child.name, child.last_words)
        return await process.wait()

    async def _made(self, child: Child) -> asyncio.subprocess.Process | Forked:
        environment = {**os.environ, **child.environment}
        if child.preload and USABLE:
            return await self._forks.fork(child.argv[2], child.argv[3:], environment)
        return await asyncio.create_subprocess_exec(
            *child.argv,
            env={**environment, PARENT: str(os.getpid())},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in the terminal is for us; we tell them.
            start_new_session=True,
        )


def worker_children(settings: Settings, counts: Mapping[Role, int]) -> list[Child]:
    """The children of these roles, `counts[role]` of each, in free slots."""
    children: list[Child] = []
    environment = settings.environment()
    for role in ROLES:
        for _ in range(counts.get(role, 0)):
            slot, lock = _slot(settings, role)
            name = f"{role}-{slot}"
            child = Child(
                name=name,
                argv=[sys.executable, "-m", "app.process", role, str(slot)],
                environment=environment,
                log=settings.log_dir / f"{name}.log",
                preload=imports(role),
                slot=lock,
            )
            children.append(child)
    return children


def _slot(settings: Settings, role: Role) -> tuple[int, IO[str]]:
    """The lowest number no other supervisor of this data directory uses; held as long as the file is open."""
    directory = settings.run_dir / "slots"
    directory.mkdir(parents=True, exist_ok=True)
    for slot in range(1000):
        file = (directory / f"{role}-{slot}").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        return slot, file
    raise WorkerFailed(f"1000 processes of role {role} run here already")


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process is not None and child.process.returncode is None:
        try:
            child.process.send_signal(number)
        except ProcessLookupError:
            return


def _to_stderr(name: str, text: str) -> None:
    sys.stderr.write(f"{name} | {text}\n")


async def run_workers(settings: Settings, counts: Mapping[Role, int]) -> None:
    """Runs until SIGTERM or SIGINT. Raises `WorkerFailed` where a role keeps dying, after the others have stopped."""
    supervisor = Supervisor(worker_children(settings, counts))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    supervisor.start()
    failing = asyncio.create_task(supervisor.wait())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({failing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await supervisor.stop()
    stopping.cancel()
    if failing.done() and not failing.cancelled() and failing.exception() is not None:
        failing.result()
    failing.cancel()
