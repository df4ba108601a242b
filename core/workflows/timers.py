"""Timers: which run is to be woken when. They rest in plain arrays, by the minute; only those that are near are ordered."""

from __future__ import annotations

import heapq
from array import array
from typing import Final

_MINUTE_MS: Final = 60_000


class Timers:
    """Due times with what they wake. Nothing is taken out before its time: whoever asks knows whether an entry still counts."""

    def __init__(self) -> None:
        self._near: list[tuple[int, str]] = []
        """A heap of all that is due in the minute `_until` or before."""
        self._until = -1
        self._far: dict[int, tuple[array[int], list[str]]] = {}
        """Minute → due times, and what is due then."""
        self._minutes: list[int] = []
        """A heap of the minutes in `_far`."""
        self._count = 0

    def __len__(self) -> int:
        """Entries, those that count no more among them."""
        return self._count

    def put(self, due: int, name: str) -> None:
        """Wake it then."""
        self._count += 1
        minute = due // _MINUTE_MS
        if minute <= self._until:
            heapq.heappush(self._near, (due, name))
            return
        far = self._far.get(minute)
        if far is None:
            far = self._far[minute] = (array("q"), [])
            heapq.heappush(self._minutes, minute)
        far[0].append(due)
        far[1].append(name)

    def first(self) -> tuple[int, str] | None:
        """The earliest entry, of equal ones that of the smallest name."""
        while not self._near and self._minutes:
            self._until = heapq.heappop(self._minutes)
            dues, names = self._far.pop(self._until)
            self._near = list(zip(dues, names, strict=True))
            heapq.heapify(self._near)
        return self._near[0] if self._near else None

    def pop(self) -> None:
        """Take out the earliest entry."""
        if self.first() is not None:
            heapq.heappop(self._near)
            self._count -= 1
