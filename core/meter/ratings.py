"""Ratings: what people gave a product, counted and added up for each window end, in plain numbers: they are few.

A rating enters a window at the first end after it and leaves at the first end that lies a window's length behind. Both are kept as
differences under the ends at which they count; a rating that comes late counts at the ends that are still open.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from core.people.profile import UNIT
from schemas.registers import RATING_COLUMNS, WINDOWS, Patch

TYPE: Final = "rating.given"
_CELL: Final = np.zeros(1, "<i4").tobytes()
"""The only name of these registers, `*`."""
COLUMNS: Final = RATING_COLUMNS


class Ratings:
    """One product's, in one partition."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[int, int]] = {}
        """Window → count and sum (in ten-thousandths) at the newest closed end."""
        self._coming: dict[tuple[int, str], tuple[int, int]] = {}
        """(end, window) → by how much both change there."""
        self._ends: list[tuple[int, str]] = []

    def add(self, at: int, rating: float, closed: int) -> None:
        """Somebody gave it so many stars (1 to 5) then; every end up to `closed` has been told."""
        stars = round(rating * UNIT)
        for window, (length, step) in WINDOWS.items():
            enters = max(at, closed) // step * step + step
            leaves = at // step * step + step + length
            if enters < leaves:
                self._change(enters, window, 1, stars)
                self._change(leaves, window, -1, -stars)

    def close(self, until: int) -> Iterator[Patch]:
        """Close the ends up to there: the windows whose figures changed, in order of their ends."""
        while self._ends and self._ends[0][0] <= until:
            end, window = heapq.heappop(self._ends)
            count, stars = self._coming.pop((end, window))
            before = self._now.get(window, (0, 0))
            now = self._now[window] = (before[0] + count, before[1] + stars)
            if now != before:
                yield Patch(window, end, 0, _CELL, [np.array([figure], "<i8").tobytes() for figure in now])

    def due(self, until: int) -> bool:
        """Whether `close` would change anything."""
        return bool(self._ends) and self._ends[0][0] <= until

    def row(self) -> list[Any]:
        """As plain values."""
        return [self._now, [[*at, *by] for at, by in sorted(self._coming.items())]]

    @staticmethod
    def of(row: list[Any]) -> Ratings:
        """What `row` gave."""
        made = Ratings()
        made._now = {window: (count, stars) for window, (count, stars) in row[0].items()}
        for end, window, count, stars in row[1]:
            made._change(end, window, count, stars)
        return made

    def _change(self, end: int, window: str, count: int, stars: int) -> None:
        at = (end, window)
        if at not in self._coming:
            heapq.heappush(self._ends, at)
        before = self._coming.get(at, (0, 0))
        self._coming[at] = (before[0] + count, before[1] + stars)
