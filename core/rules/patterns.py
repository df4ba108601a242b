"""What one subject did, as far as one trigger remembers it: events in order of time in, firings out. Pure and bounded.

An `Entry` holds at most as many times as the trigger counts to (or has steps), and one event. Its `due` is when it wakes:
the deadline of an absence or inactivity, or when a count or sequence cannot be completed any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.triggers import OnAbsence, OnCount, OnInactivity, OnSequence, Remembering

NEVER = -1


class Seen(NamedTuple):
    """An event of the subject."""

    at: int
    cause: str
    data: dict[str, Any]
    act: bool
    traceparent: str | None


class Firing(NamedTuple):
    """The trigger fires at `at`, because of `seen`, having begun at `first_at`."""

    at: int
    seen: Seen
    first_at: int
    cause: str


@dataclass(slots=True)
class Entry:
    """What is remembered of a subject for one trigger."""

    due: int
    times: list[int] = field(default_factory=list)
    """Of a count the times counted; of a sequence, for each step but the last, the latest beginning of what got that far."""
    anchor: Seen | None = None
    """Of an absence or inactivity what the wait began with."""


def advance(
    trigger: Remembering, entry: Entry | None, seen: Seen, steps: list[int]
) -> tuple[Entry | None, Firing | None]:
    """What the event makes of the entry; events come in order of time. `steps`: those of the trigger's happenings that it is."""
    match trigger:
        case OnCount():
            return _count(trigger, entry, seen)
        case OnSequence():
            return _sequence(trigger, entry, seen, steps)
        case OnAbsence():
            if 1 in steps and (0 not in steps or entry is not None):
                entry = None
            if 0 in steps and (entry is None or trigger.restart):
                entry = Entry(due=seen.at + trigger.within_s * 1000, anchor=seen)
            return entry, None
        case OnInactivity():
            return Entry(due=seen.at + trigger.after_s * 1000, anchor=seen), None


def wake(trigger: Remembering, entry: Entry) -> Firing | None:
    """The entry's time has come, and goes."""
    if not isinstance(trigger, (OnAbsence, OnInactivity)) or entry.anchor is None:
        return None
    return Firing(entry.due, entry.anchor, entry.anchor.at, f"{entry.anchor.cause}+{entry.due}")


def _count(trigger: OnCount, entry: Entry | None, seen: Seen) -> tuple[Entry | None, Firing | None]:
    span = trigger.within_s * 1000
    times = [t for t in (entry.times if entry else []) if t > seen.at - span] + [seen.at]
    if len(times) >= trigger.times:
        return None, Firing(seen.at, seen, times[0], seen.cause)
    return Entry(due=seen.at + span, times=times), None


def _sequence(
    trigger: OnSequence, entry: Entry | None, seen: Seen, steps: list[int]
) -> tuple[Entry | None, Firing | None]:
    span, last = trigger.within_s * 1000, len(trigger.steps) - 1
    begun = list(entry.times) if entry else [NEVER] * last
    for step in reversed(steps):  # an event is never two steps of one sequence
        if step == 0:
            begun[0] = seen.at
            continue
        began = begun[step - 1]
        if began == NEVER or seen.at - began > span:
            continue
        if step == last:
            return None, Firing(seen.at, seen, began, seen.cause)
        begun[step] = began  # never earlier than what got here before: that came past the step before too
    newest = max(begun)
    return (None if newest == NEVER else Entry(due=newest + span, times=begun)), None
