"""Clocks of one source partition: replays, progress markers, idle clocks, and each product's own watermark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from core.batch import Int64s

NEVER: Final = -(1 << 60)
DISORDER_MS: Final = 2_000
"""What a marker's or an idle owner's time is held back by."""
AHEAD_MS: Final = 5_000
"""How far a row's own time may run ahead of the broker's, for clocks."""
DAY_MS: Final = 86_400_000


class Clock:
    """What speaks for every product of the partition."""

    def __init__(self) -> None:
        self.at = NEVER
        self.replays: dict[str, bool] = {}
        """Open replays, and whether each may act on old data."""
        self.announced = NEVER
        """What the last `Clock` record said."""
        self.quiet = NEVER
        """Window ends before this time hold replayed data that must not act."""

    @property
    def replaying(self) -> bool:
        """Between `begun` and `ended` of some replay: idle clocks stand still."""
        return bool(self.replays)

    @property
    def acts(self) -> bool:
        """Whether data older than a day may act now."""
        return all(self.replays.values())

    def mark(self, kind: str, replay: str, act: bool, broker: int) -> None:
        """A marker of a replay was read at the broker's time; the end of an unknown one changes nothing."""
        if kind == "begun":
            self.replays[replay] = act
        if not self.replays.get(replay, True):
            self.quiet = max(self.quiet, broker - DAY_MS)
        if kind == "ended":
            self.replays.pop(replay, None)

    def advance(self, at: int) -> bool:
        """Move on to `at` if that is later; whether it was."""
        later = at > self.at
        if later:
            self.at = at
        return later


class Floors:
    """What markers and the partition's clock say of products' watermarks at each row of a fold.

    Products that begin with a replay hear only what comes after their beginning; all others hear the partition's clock.
    """

    def __init__(self, rows: int, clock: int, held: Iterable[int]) -> None:
        self._rows = rows
        self._cohorts: list[tuple[list[int], list[tuple[int, int]]]] = [([], [(0, clock)]), (list(held), [])]
        """(products, rises: from which row on, to what); the first is of every product not named in another."""
        self._told: tuple[Int64s, Int64s] | None = None

    def begin(self, groups: Sequence[int]) -> None:
        """These begin here."""
        if groups:
            self._cohorts.append((list(groups), []))

    def rise(self, row: int, at: int) -> None:
        """From `row` on, every product's watermark is at least `at`."""
        for _, rises in self._cohorts:
            rises.append((row, at))

    def told(self, rows: Int64s, at: Int64s) -> None:
        """The same, of many, each row once; of no product that begins with a replay."""
        self._told = rows, at

    def of(self, groups: Int64s, count: int) -> Int64s | int:
        """The floor at each row, `groups` being the rows' products, of `count`."""
        steps = [self._steps(rises, None if i else self._told) for i, (_, rises) in enumerate(self._cohorts)]
        apart = [i for i, (members, _) in enumerate(self._cohorts) if i and members]
        if not apart:
            return steps[0]
        cohort = np.zeros(count, np.int64)
        for i in apart:
            cohort[self._cohorts[i][0]] = i
        mine = cohort[groups]
        floor = np.full(self._rows, steps[0])
        for i in apart:
            np.copyto(floor, steps[i], where=mine == i)
        return floor

    def settle(self, watermark: Int64s) -> None:
        """After the rows: the products that began with a replay keep what they heard."""
        for members, rises in self._cohorts[1:]:
            if members and rises:
                watermark[members] = np.maximum(watermark[members], max(at for _, at in rises))

    def _steps(self, rises: Sequence[tuple[int, int]], told: tuple[Int64s, Int64s] | None) -> Int64s | int:
        if told is None and all(row == 0 for row, _ in rises):
            return max((at for _, at in rises), default=NEVER)
        floor = np.full(self._rows + 1, NEVER)
        at_row, at = np.array(rises, np.int64).T
        np.maximum.at(floor, at_row, at)
        if told is not None:
            rows, clocks = told
            floor[rows] = np.maximum(floor[rows], clocks)
        return np.maximum.accumulate(floor)[:-1]
