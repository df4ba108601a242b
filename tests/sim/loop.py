"""An event loop without wall time, threads and sockets: what runs next is chosen by a seed.

Each simulated process has its own queue, first in, first out, as a real event loop has; which process goes on next is
drawn. Time stands still while anybody can run, then jumps to the next timer. A killed process never runs again, not even
its `finally` blocks; a frozen one (SIGSTOP) goes on when it is thawed.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

PLACE: ContextVar[Process] = ContextVar("PLACE")
"""The process that the running code belongs to."""
EPOCH_S = 1_000_000.0
"""Wall time at the begin."""


class Stalled(Exception):
    """Nothing can run any more, or it has run for too long."""


class Process:
    """Something that can be killed or frozen as a whole."""

    __slots__ = ("dead", "frozen", "name", "ready", "tasks", "watch")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[Handle] = deque()
        self.dead = False
        self.frozen = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.watch: Callable[[Any], None] | None = None
        """Told of each task of this process that has just run and now waits."""


class Handle:
    """A callback to come."""

    __slots__ = ("args", "callback", "context", "gone", "place", "task")

    def __init__(self, callback: Any, args: Any, context: Context, place: Process) -> None:
        self.callback, self.args, self.context, self.place = callback, args, context, place
        self.gone = False
        self.task: Any = None
        """The task of which this is the first step; later steps say so themselves."""

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone


class SimLoop(asyncio.AbstractEventLoop):
    """The loop of one run."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.steps = 0
        self.broker = Process("broker")
        self.processes = [self.broker]
        self.generators: list[Any] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = 0

    # --- what asyncio asks of a loop --------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def wall(self) -> float:
        """Seconds since the epoch."""
        return EPOCH_S + self.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        context = context or copy_context()
        place = context.get(PLACE, self.broker)
        handle = Handle(callback, args, context, place)
        if not place.dead:
            place.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        context = context or copy_context()
        handle = Handle(callback, args, context, context.get(PLACE, self.broker))
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_future(self) -> Any:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        place = (context or copy_context()).get(PLACE, self.broker)
        place.tasks.append(task)
        if place.ready:
            place.ready[-1].task = task
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: Any) -> None:
        """asyncio reports tasks whose failure nobody asked for; the verdict is about what came of it."""

    # --- what the simulation asks -----------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """A new one."""
        process = Process(name)
        self.processes.append(process)
        return process

    def spawn(self, process: Process, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task in a process."""
        context = copy_context()
        context.run(PLACE.set, process)
        return context.run(self.create_task, coro, context=context)  # type: ignore[no-any-return]

    def at_broker(self, delay: float, callback: Callable[[], object]) -> None:
        """Call it later, whatever happens to whoever asks."""
        context = copy_context()
        context.run(PLACE.set, self.broker)
        self.call_later(delay, callback, context=context)

    def kill(self, process: Process) -> None:
        """kill -9."""
        process.dead = True
        process.ready.clear()
        if process in self.processes:
            self.processes.remove(process)

    def run(self, main: Coroutine[Any, Any, Any], *, most_steps: int) -> Any:
        """Run `main`, as the broker's, to its end. Raises `Stalled` where it does not come to it."""
        task = self.spawn(self.broker, main)
        draw = self.random.random
        while not task.done():
            able = [p for p in self.processes if p.ready and not p.frozen]
            if not able:
                self._jump()
                continue
            place = able[0] if len(able) == 1 else able[int(draw() * len(able))]
            handle = place.ready.popleft()
            if handle.gone:
                continue
            self.steps += 1
            handle.context.run(handle.callback, *handle.args)
            if place.watch is not None and not place.dead:
                place.watch(handle.task or getattr(handle.callback, "__self__", None))
            if self.steps > most_steps:
                raise Stalled(f"{most_steps} steps and no end, at {self.now:.3f} s")
        return task.result()

    def _jump(self) -> None:
        timers = self._timers
        if not timers:
            raise Stalled(f"nobody waits for anything, at {self.now:.3f} s")
        self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            handle = heapq.heappop(timers)[2]
            if not handle.gone and not handle.place.dead:
                handle.place.ready.append(handle)
