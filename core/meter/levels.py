"""Levels: in which panes a pair was seen, one bitmap a pair and pane size, read and written for whole columns.

A pane is a stretch of one step. A window of `k` panes that ends at `e` holds the panes e-k … e-1, so a use in pane `p` counts
in the ends p+1 … p+k. If the pair's nearest uses around `p` are in the panes `q` before and `n` after, what is new are the ends
max(p+1, q+k+1) … min(p+k, n): two differences, whatever the number of windows, and no unions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.meter.index import UInt64s, grown
from schemas.registers import WINDOWS

NO_PANE: Final = -(1 << 30)
"""Before every pane (fits 32 bits)."""
FAR: Final = 1 << 40
"""Behind every pane."""
_ONE: Final = np.uint64(1)
_WORD: Final = 64


@dataclass(frozen=True, slots=True)
class Level:
    """One pane size, and the windows made of it."""

    step: int
    windows: tuple[tuple[str, int], ...]
    """(name, panes)."""
    wide: bool
    """Bitmaps of 128 panes instead of 32: short panes, of which grace spans many."""

    @property
    def reach(self) -> int:
        """Panes of its longest window: a pane farther back than that concerns no end."""
        return max(k for _, k in self.windows)

    @property
    def width(self) -> int:
        """Panes that a bitmap spans."""
        return 128 if self.wide else 32


def _levels() -> tuple[Level, ...]:
    steps = sorted({step for _, step in WINDOWS.values()})
    return tuple(
        Level(step, tuple((name, length // s) for name, (length, s) in WINDOWS.items() if s == step), step < 3_600_000)
        for step in steps
    )


LEVELS: Final = _levels()
"""Finest first: 10 s, 1 min, 1 h, 1 d."""


class Sighting(NamedTuple):
    """Rows that put their pair into a pane where it was not: positions in the given columns, and the neighbours."""

    rows: Int64s
    before: Int64s
    """The nearest pane before in which the pair was seen, or `NO_PANE`."""
    after: Int64s
    """The nearest one after, or `FAR`."""


class Marks:
    """The bitmaps of one level, by slot. Bit j of a slot stands for pane `last - j`; bit 0 is always set."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.last: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.low: npt.NDArray[Any] = np.zeros(0, np.uint64 if level.wide else np.uint32)
        self.high: UInt64s = np.zeros(0, np.uint64)

    def grow(self, count: int) -> None:
        """Make room for slots below `count`; new ones are empty."""
        self.last = grown(self.last, count, NO_PANE)
        self.low = grown(self.low, count)
        if self.level.wide:
            self.high = grown(self.high, count)

    def take(self, other: Marks, slots: Int64s) -> None:
        """Become a copy of the other's `slots`, as slots 1 … n; slot 0 is empty."""
        self.grow(len(slots) + 1)
        self.last[1 : len(slots) + 1] = other.last[slots]
        self.low[1 : len(slots) + 1] = other.low[slots]
        if self.level.wide:
            self.high[1 : len(slots) + 1] = other.high[slots]

    def see(self, slots: Int64s, panes: Int64s) -> Sighting:
        """Mark the panes, in the order of arrival within each slot; equal slots stand together.

        Every pane must lie within the bitmap: at most `width - 1` panes before the slot's newest.
        """
        rows = np.flatnonzero(panes != self.last[slots])
        if len(rows) == 0:
            return _NOTHING
        slots, panes = slots[rows], panes[rows]
        if len(rows) > 1:
            again = (slots[1:] == slots[:-1]) & (panes[1:] == panes[:-1])
            if again.any():
                keep = np.append(True, ~again)
                rows, slots, panes = rows[keep], slots[keep], panes[keep]
        same = slots[1:] == slots[:-1]
        falls = same & (panes[1:] < panes[:-1])
        if not falls.any():
            found, before, after = self._rising(slots, panes)
            return Sighting(rows[found], before, after)
        # a pair's panes fall and rise: one round for each rising run, in order
        count = np.append(0, np.cumsum(falls))
        start = np.append(0, np.flatnonzero(~same) + 1)
        run = count - np.repeat(count[start], np.diff(np.append(start, len(rows))))
        parts: list[Sighting] = []
        for r in range(int(run.max()) + 1):
            of = np.flatnonzero(run == r)
            found, before, after = self._rising(slots[of], panes[of])
            parts.append(Sighting(rows[of[found]], before, after))
        return Sighting(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _rising(self, slots: Int64s, panes: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """One rising run of panes per slot: (positions newly marked, before, after)."""
        n = len(slots)
        change = slots[1:] != slots[:-1]
        single = bool(change.all())
        last = self.last[slots].astype(np.int64)
        ahead = panes > last
        before = np.where(ahead, last, NO_PANE)
        if not single:
            np.maximum(before[1:], np.where(change, NO_PANE, panes[:-1]), out=before[1:])
        after = np.full(n, FAR, np.int64)
        found = np.arange(n)
        if not ahead.all():
            behind = np.flatnonzero(~ahead)
            known, earlier, later = self._around(slots[behind], last[behind] - panes[behind])
            before[behind] = np.maximum(before[behind], np.where(earlier < 0, NO_PANE, last[behind] - earlier))
            after[behind] = np.where(later < 0, FAR, last[behind] - later)
            fresh = np.ones(n, np.bool_)
            fresh[behind] = ~known
            found = np.flatnonzero(fresh)
        if single:
            self._mark(slots, last, np.maximum(last, panes), panes, None)
        else:
            ends = np.flatnonzero(np.append(change, True))
            starts = np.append(0, ends[:-1] + 1)
            newest = np.maximum(last[ends], panes[ends])
            self._mark(slots[ends], last[ends], newest, panes, starts)
        return found, before[found], after[found]

    def _mark(self, slots: Int64s, last: Int64s, newest: Int64s, panes: Int64s, starts: Int64s | None) -> None:
        """Set the bits of `panes` (those of slot i from `starts[i]` on; without starts one a slot)."""
        shift = np.minimum(newest - last, self.level.width).astype(np.uint64)
        if starts is None:
            depth = newest - panes
        else:
            depth = np.repeat(newest, np.diff(np.append(starts, len(panes)))) - panes
        bit = depth.astype(np.uint64)
        low = np.where(bit < _WORD, _ONE << (bit & np.uint64(63)), np.uint64(0))
        old = self.low[slots].astype(np.uint64)
        in_word = shift < _WORD
        small = shift & np.uint64(63)
        moved = np.where(in_word, old << small, np.uint64(0))
        if self.level.wide:
            high = np.where(
                (bit >= _WORD) & (bit < 2 * _WORD), _ONE << (bit & np.uint64(63)), np.uint64(0)
            )  # beyond: concerns no end any more
            old_high = self.high[slots]
            carried = np.where(small > 0, old >> ((np.uint64(64) - small) & np.uint64(63)), np.uint64(0))
            shifted = np.where(in_word, (old_high << small) | carried, old << small)
            shifted[shift >= 2 * _WORD] = 0
            if starts is not None:
                high = np.bitwise_or.reduceat(high, starts)
            self.high[slots] = shifted | high
        if starts is not None:
            low = np.bitwise_or.reduceat(low, starts)
        merged = moved | low
        self.low[slots] = merged if self.level.wide else (merged & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        self.last[slots] = newest

    def _around(self, slots: Int64s, depth: Int64s) -> tuple[npt.NDArray[np.bool_], Int64s, Int64s]:
        """For bits at `depth`: whether set, the depth of the nearest set bit deeper (earlier) and shallower (later); -1: none."""
        low = self.low[slots].astype(np.uint64)
        high = self.high[slots] if self.level.wide else np.zeros(len(slots), np.uint64)
        bit = (depth & 63).astype(np.uint64)
        in_low = depth < _WORD
        word: UInt64s = np.where(in_low, low, high)
        known = ((word >> bit) & _ONE).astype(np.bool_)
        below = (_ONE << bit) - _ONE
        above = ~(below | (_ONE << bit))
        earlier = _lowest(word & above)
        earlier = np.where(earlier >= 0, np.where(in_low, earlier, earlier + _WORD), -1)
        spill = _lowest(high)
        earlier = np.where((earlier < 0) & in_low & (spill >= 0), spill + _WORD, earlier)
        later = _highest(word & below)
        later = np.where(later >= 0, np.where(in_low, later, later + _WORD), -1)
        later = np.where((later < 0) & ~in_low, _highest(low), later)
        return known, earlier, later

    def any_within(self, slots: Int64s, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which slots were seen in a pane of `start` … `stop - 1`; narrow levels only."""
        last = self.last[slots].astype(np.int64)
        low = np.clip(last - stop + 1, 0, self.level.width).astype(np.uint64)
        high = np.clip(last - start + 1, 0, self.level.width).astype(np.uint64)
        mask = (_ONE << high) - (_ONE << low)
        seen: npt.NDArray[np.bool_] = (self.low[slots].astype(np.uint64) & mask) != 0
        return seen & (high > low)

    def panes(self, slot: int) -> set[int]:
        """The panes of one slot."""
        last = int(self.last[slot])
        bits = int(self.low[slot]) | (int(self.high[slot]) << 64 if self.level.wide else 0)
        return {last - j for j in range(self.level.width) if bits >> j & 1}

    def put(self, slot: int, panes: set[int]) -> bool:
        """Set the panes of one slot; whether the bitmap holds them all."""
        if not panes:
            return True
        last = max(panes)
        bits = sum(1 << (last - p) for p in panes if last - p < self.level.width)
        self.last[slot] = last
        self.low[slot] = bits & (2**64 - 1 if self.level.wide else 2**32 - 1)
        if self.level.wide:
            self.high[slot] = bits >> 64
        return last - min(panes) < self.level.width


_NOTHING: Final = Sighting(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def _lowest(words: UInt64s) -> Int64s:
    """Index of the lowest set bit; -1 where there is none."""
    index = np.bitwise_count((words & (~words + _ONE)) - _ONE).astype(np.int64)
    return np.where(words == 0, -1, index)


def _highest(words: UInt64s) -> Int64s:
    """Index of the highest set bit; -1 where there is none."""
    for by in (1, 2, 4, 8, 16, 32):
        words = words | (words >> np.uint64(by))
    return np.bitwise_count(words).astype(np.int64) - 1
