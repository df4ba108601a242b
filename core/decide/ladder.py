"""Ladders: levels by borders, with a margin and a hold, for many subjects at once. Stages and bands are both ladders.

Level 0 is "no data"; 1 … n are the named levels. The last border belongs to the level below it, every other one to the
level above it (`.2` is growth, `.6` is growth; 40 is declining, 80 is stable).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from schemas.tables import Band, Stage

Floats = npt.NDArray[np.float64]
Levels = npt.NDArray[np.int8]

STAGES: tuple[Stage, ...] = ("no_data", "low", "growth", "market")
BANDS: tuple[Band, ...] = ("no_data", "critical", "declining", "stable", "optimal")


def levels(values: Floats, borders: Sequence[float]) -> Levels:
    """The plain rule, without margin: 1 + the number of borders passed; 0 for NaN."""
    result = np.ones(values.shape, np.int8)
    for border in borders[:-1]:
        result += values >= border
    result += values > borders[-1]
    result[np.isnan(values)] = 0
    return result


@dataclass(slots=True)
class Ladder:
    """Where each subject stands, and which changes are pending."""

    level: Levels
    direction: Levels
    """Of the pending change: 1 up, -1 down, 0 none."""
    pending_at: Int64s
    """The end at which it became pending."""

    @classmethod
    def of(cls, size: int) -> Ladder:
        """All at "no data", nothing pending."""
        return cls(np.zeros(size, np.int8), np.zeros(size, np.int8), np.zeros(size, np.int64))

    def grow(self, size: int) -> None:
        """Room for `size` subjects."""
        more = size - len(self.level)
        if more > 0:
            self.level = np.concatenate([self.level, np.zeros(more, np.int8)])
            self.direction = np.concatenate([self.direction, np.zeros(more, np.int8)])
            self.pending_at = np.concatenate([self.pending_at, np.zeros(more, np.int64)])

    def judge(
        self, which: Int64s, values: Floats, end: int, step: int, borders: Sequence[float], margin: float
    ) -> tuple[Int64s, Levels]:
        """Judge subjects `which` at `end`, where they have `values` (NaN: no data).

        Returns the subjects whose level changed, with their levels before.
        """
        now = self.level[which]
        plain = levels(values, borders)
        lower, upper = levels(values - margin, borders), levels(values + margin, borders)
        target = np.where(lower > now, lower, np.where(upper < now, upper, now))
        direction = np.sign(target.astype(np.int16) - now).astype(np.int8)
        direction[plain == now] = 0
        held = (direction != 0) & (self.direction[which] == direction) & (self.pending_at[which] == end - step)
        at_once = (now == 0) | (plain == 0)
        after = np.where(at_once, plain, np.where(held, target, now)).astype(np.int8)
        pending = (direction != 0) & ~held & ~at_once
        self.level[which] = after
        self.direction[which] = np.where(pending, direction, 0)
        self.pending_at[which] = np.where(pending, end, 0)
        changed = after != now
        return which[changed], now[changed]

    def any_pending(self) -> bool:
        """Whether the next end must be judged even if no figure changes."""
        return bool(self.direction.any())
