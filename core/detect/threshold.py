"""One figure against one limit: ok → pending → firing → recovering → ok, on event time alone.

Pure: `step(state, value, at, threshold)` gives the next state and, at an edge, what happened. Called at window ends in time
order; between two calls the value is taken as unchanged, so `due` says when a call is needed although nothing changes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

Phase = Literal["ok", "pending", "firing", "recovering"]
Edge = Literal["crossed", "cleared"]

_PAST: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class Limited(Protocol):
    """What is asked of a limit: a `Threshold`, or `Limits` on a detector's score."""

    @property
    def op(self) -> str:
        """`>`, `>=`, `<` or `<=`."""

    @property
    def limit(self) -> float:
        """Past this it is crossed."""

    @property
    def clear_limit(self) -> float | None:
        """It clears only past this; None: the limit itself."""

    @property
    def for_s(self) -> int:
        """How long it must be past the limit before it is crossed."""

    @property
    def keep_firing_for_s(self) -> int:
        """How long it must be back before it is cleared."""

    @property
    def on_no_data(self) -> str:
        """`keep`, `ok` or `alert`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A limit that is no definition of its own."""

    op: str
    limit: float
    clear_limit: float | None
    for_s: int
    keep_firing_for_s: int
    on_no_data: str


@dataclass(frozen=True, slots=True)
class State:
    """Where one subject stands."""

    phase: Phase = "ok"
    since: int = 0
    """The end at which this phase began (pending, recovering)."""
    crossed_since: int = 0
    """The end at which the value first went past the limit."""
    fired_at: int = 0
    between: bool = False
    """Recovering, and at `since` the value was between the two limits: while it is, each end begins the time back anew."""


OK: Final = State()


def step(state: State, value: float | None, at: int, threshold: Limited) -> tuple[State, Edge | None]:
    """The state after the end `at`, where the figure is `value` (None: no data)."""
    past = is_past(value, threshold)
    if past is None:
        return state, None
    match state.phase:
        case "ok":
            if not past:
                return state, None
            pending = State("pending", at, at)
            return step(pending, value, at, threshold) if threshold.for_s == 0 else (pending, None)
        case "pending":
            if not past:
                return OK, None
            if at - state.since >= threshold.for_s * 1000:
                return State("firing", at, state.crossed_since, at), "crossed"
            return state, None
        case "firing":
            if _holds_on(value, past, threshold):
                return state, None
            recovering = State("recovering", at, state.crossed_since, state.fired_at)
            return step(recovering, value, at, threshold) if threshold.keep_firing_for_s == 0 else (recovering, None)
        case "recovering":
            if past:
                return State("firing", state.fired_at, state.crossed_since, state.fired_at), None
            if _holds_on(value, past, threshold):  # between the two limits: not yet on its way back
                return State("recovering", at, state.crossed_since, state.fired_at, True), None
            if at - state.since >= threshold.keep_firing_for_s * 1000:
                return OK, "cleared"
            return (replace(state, between=False) if state.between else state), None


def is_past(value: float | None, threshold: Limited) -> bool | None:
    """Whether the value is past the limit; None where there is no data and the state is to be kept."""
    if value is None:
        return {"keep": None, "ok": False, "alert": True}[threshold.on_no_data]
    return _PAST[threshold.op](value, threshold.limit)


def due(state: State, threshold: Limited) -> int | None:
    """The event time at which the state may move although its figure does not."""
    match state.phase:
        case "pending":
            return state.since + threshold.for_s * 1000
        case "recovering" if state.between:
            return state.since + 1
        case "recovering":
            return state.since + threshold.keep_firing_for_s * 1000
        case _:
            return None


def _holds_on(value: float | None, past: bool, threshold: Limited) -> bool:
    """Whether a firing figure is still past the clearing limit."""
    if value is None or threshold.clear_limit is None:
        return past
    return past or _PAST[threshold.op](value, threshold.clear_limit)
