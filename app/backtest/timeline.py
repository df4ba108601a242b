"""When live stood where: the event time that every source had passed, by the broker's clock, from METER's recorded clocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from core.decide.schedules import LATE_MS
from schemas.definitions import OnSchedule
from schemas.registers import SOURCES

_FINE_MS: Final = 1_000
_COARSE_MS: Final = 10_000
_MARGIN_MS: Final = 600_000
_MOST: Final = 200_000
"""Moments of which each second is kept."""


class Timeline:
    """`clocks`: (broker time, event time) of each source in order of the log. Right to a second; of a long past to ten.

    >>> clocks = {(source, 0): np.array([(10_000, 5_000), (20_000, 15_000)]) for source in SOURCES}
    >>> line = Timeline(clocks, 1)
    >>> line.passed(9_999), line.passed(10_000), line.passed(99_999)
    (-1, 5000, 15000)
    >>> line.when(5_000), line.when(5_001), line.when(15_001)
    (10000, 20000, None)
    """

    def __init__(self, clocks: Mapping[tuple[str, int], npt.NDArray[np.int64]], partitions: int) -> None:
        self._told: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._at: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        sources = [(source, p) for source in SOURCES for p in range(partitions)]
        if not all(len(clocks.get(source, ())) for source in sources):
            return  # some source never said anything: nothing was ever passed by all
        columns = [clocks[source] for source in sources]
        step = _FINE_MS if sum(map(len, columns)) <= _MOST else _COARSE_MS
        self._told = np.unique(np.concatenate([-(-c[:, 0] // step) * step for c in columns]))
        least = np.full(len(self._told), np.iinfo(np.int64).max)
        for c in columns:
            known = np.searchsorted(np.maximum.accumulate(c[:, 0]), self._told, side="right")
            passed = np.concatenate([[-1], np.maximum.accumulate(c[:, 1])])
            least = np.minimum(least, passed[known])
        self._at = least

    def passed(self, told: int) -> int:
        """The event time that every source had passed by this broker time; -1: none."""
        place = int(np.searchsorted(self._told, told, side="right"))
        return int(self._at[place - 1]) if place else -1

    @property
    def first(self) -> int:
        """The first event time that every source is known to have passed; 0: none."""
        known = self._at[self._at >= 0]
        return int(known[0]) if len(known) else 0

    def when(self, at: int) -> int | None:
        """The broker time by which every source had come to this event time; None: never, or nobody knows."""
        place = int(np.searchsorted(self._at, at))
        return int(self._told[place]) if place < len(self._at) else None


def moments(schedules: Iterable[OnSchedule], line: Timeline, first: int, last: int) -> set[int]:
    """Broker times at which the log has to be cut: what is due is judged within the hour after which it would count as missed, where
    live did so. [first, last]: broker times.
    """
    begin, end = max(line.passed(first), line.first), line.passed(last)
    due: set[int] = set()
    for schedule in schedules:
        at = schedule.after(begin) if schedule.catch_up != "all" else None
        while at is not None and at <= end:
            due.add(at)
            at = schedule.after(at)
    found: set[int] = set()
    earliest = told = 0
    for at in sorted(due):
        came = line.when(at)
        if came is None:
            break
        if told and came > earliest + LATE_MS - _MARGIN_MS:
            found.add(told + 1)
            earliest = at
        elif not told:
            earliest = at
        told = came
    return found | ({told + 1} if told else set())
