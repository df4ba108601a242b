"""Crash points: every place where a coroutine of checkpoint, recovery or revoke can be waiting, found in the bytecode.

A point is hit when a worker is killed, or frozen until its session is over, while one of its coroutines waits there.
"""

from __future__ import annotations

import dis
import gc
import inspect
import linecache
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from core.task import TaskSpec
from transport import checkpoint, recovery, runner, runs, state

MODULES: tuple[ModuleType, ...] = (checkpoint, recovery, state, runner, runs)
NOT_OURS = frozenset({"read_state", "Runner.room", "Runs.wait_for_change"})
"""Coroutines of these modules that belong neither to a checkpoint nor to recovery nor to revoke."""
HOW = {0: "await", 1: "enter", 2: "leave"}


class Point(NamedTuple):
    """One `await` (or a side of an `async with`)."""

    module: str
    function: str
    line: int
    column: int
    how: str

    def __str__(self) -> str:
        return f"{self.module}.{self.function}:{self.line}:{self.column} {self.how}"


Where = tuple[CodeType, int]


def _codes(module: ModuleType) -> Iterator[CodeType]:
    for holder in [module, *(found for _, found in inspect.getmembers(module, inspect.isclass))]:
        for _, function in inspect.getmembers(holder, inspect.isfunction):
            code = function.__code__
            ours = function.__module__ == module.__name__ and code.co_qualname not in NOT_OURS
            if ours:
                yield from _nested(code)


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A coroutine, and the comprehensions in it that await."""
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _waits(module: str, code: CodeType) -> Iterator[tuple[int, Point]]:
    """Where a coroutine stands while it waits: the yield of each `await`. Only entering and leaving `asyncio.timeout` never waits."""
    how, sending = "await", False
    for instruction in dis.get_instructions(code):
        if instruction.opname == "GET_AWAITABLE":
            how = HOW[instruction.arg or 0]
        elif instruction.opname == "GET_ANEXT":
            how = "next"
        elif instruction.opname == "SEND":
            sending = True
        elif instruction.opname == "YIELD_VALUE" and sending:
            sending = False
            place = instruction.positions
            assert place is not None and place.lineno is not None
            if "asyncio.timeout(" not in linecache.getline(code.co_filename, place.lineno) or how not in (
                "enter",
                "leave",
            ):
                yield instruction.offset, Point(module, code.co_qualname, place.lineno, place.col_offset or 0, how)


def _enumerate() -> dict[Where, Point]:
    return {
        (code, at): point
        for module in MODULES
        for code in set(_codes(module))
        for at, point in _waits(module.__name__.partition(".")[2], code)
    }


WHERE = _enumerate()
"""By where a frame stands; a `finally` stands in the bytecode more than once."""
POINTS: list[Point] = sorted(set(WHERE.values()))


def waiting(task: Any) -> Iterator[Point]:
    """The points at which a task waits, outermost first."""
    for frame in _frames(task):
        point = WHERE.get((frame.f_code, frame.f_lasti))
        if point is not None:
            yield point


def roles(task: Any) -> set[str]:
    """The roles on whose behalf it waits."""
    selves = (frame.f_locals.get("self") for frame in _frames(task))
    specs = (getattr(found, "spec", None) or getattr(found, "_spec", None) for found in selves)
    return {spec.role for spec in specs if isinstance(spec, TaskSpec)}


def _frames(task: Any) -> Iterator[Any]:
    found = task.get_coro()
    while found is not None:
        frame = getattr(found, "cr_frame", None) or getattr(found, "ag_frame", None)
        if frame is None:
            # `anext()` of an asynchronous generator does not say of which: the collector knows.
            found = next((thing for thing in gc.get_referents(found) if inspect.isasyncgen(thing)), None)
            continue
        yield frame
        found = getattr(found, "cr_await", None) or getattr(found, "ag_await", None)


def trap(point: Point, times: int, spring: Callable[[], None]) -> Callable[[Any], None]:
    """For `Process.watch`: springs once a task waits at the point for the n-th time."""
    left = times

    def watch(task: Any) -> None:
        nonlocal left
        if task is None or not hasattr(task, "get_coro") or task.done():
            return
        if point in waiting(task):
            left -= 1
            if not left:
                spring()

    return watch
