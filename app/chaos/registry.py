"""Every kind of fault once: a name, what it is, how it is injected and healed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.chaos.stage import Stage

Track = Literal["machines", "neighbours"]
"""Faults of one track follow each other; the two tracks go on beside each other."""
Injected = AbstractAsyncContextManager[str]


def always(stage: Stage) -> bool:
    """It can be done anywhere."""
    return True


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    name: str
    what: str
    track: Track
    lasts_s: tuple[float, float]
    """How long it is left in place; what injecting and healing take comes on top."""
    inject: Callable[[Stage], Injected]
    """Entering the context injects and says what was done to whom, leaving it heals."""
    possible: Callable[[Stage], bool] = always


KINDS: dict[str, Kind] = {}


def kind(
    name: str,
    what: str,
    *,
    track: Track,
    lasts_s: tuple[float, float] = (0.0, 0.0),
    possible: Callable[[Stage], bool] = always,
) -> Callable[[Callable[[Stage], AsyncIterator[str]]], Callable[[Stage], Injected]]:
    """Registers a generator: what stands before its `yield` injects, what stands after it heals."""

    def register(function: Callable[[Stage], AsyncIterator[str]]) -> Callable[[Stage], Injected]:
        inject = asynccontextmanager(function)
        if name in KINDS:
            raise ValueError(f"two kinds of fault are called {name!r}")
        KINDS[name] = Kind(name, what, track, lasts_s, inject, possible)
        return inject

    return register
