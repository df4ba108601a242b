"""Pairs: who used what when. One row per existing (cell, user), exact and small.

All pairs keep their first use and a bitmap of days; those used within the last day also have a *hot* slot with bitmaps of the finer
panes (`core.kernels.sight` says how they are laid out). An odd pair, one of whose panes lies too far ahead of the watermark for
bitmaps, keeps sets of panes instead and goes through `scalar`, use by use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.kernels import sight as kernels
from core.kernels.index import find, place
from core.meter.index import LOAD, Bools, UInt32s, UInt64s, empty_slots
from core.meter.levels import LEVEL_TABLE, LEVELS, PLAN, bitmap, panes
from core.meter.memory import Column
from core.meter.pending import Pending
from core.meter.scalar import Scalar, Use
from core.meter.tally import Contributions

USERS: Final = 0
EVENTS: Final = 1
ORGANIC: Final = 2
COLUMNS: Final = ("users", "events", "organic")

Uses = tuple[Int64s, Int64s, Int64s, Int64s, Int64s, Int64s]
"""Columns of (product, user, cell or 0, time, organic, watermark)."""
COOL_MS: Final = 6 * 3_600_000
"""A hot slot lives at least a day of event time, so looking for dead ones more often than this would find few."""
_ODD: Final = 1 << 63
_FIRST_BITS: Final = 43
_DAY_BITS: Final = 16
_LOW: Final = (1 << 32) - 1


class Pairs:
    """The pairs of one partition. A key is `cell << 32 | user`."""

    def __init__(self, rows: Column[np.uint64] | None = None, count: int = 0, hot: UInt64s | None = None) -> None:
        self._rows = Column.empty(np.uint64, 3) if rows is None else rows
        self.count = count
        self.slots: UInt32s = empty_slots(self.count)
        place(self.rows[:, 0], self.slots, self.count)
        self._hot = Column(np.zeros((1, 8), np.uint64) if hot is None else hot)
        self.hot_count = len(self.hot)
        """Hot slots, the empty slot 0 among them."""
        self.hot_limit = max(1 << 16, 2 * self.hot_count)
        self.cooled_at = 0
        self.wide: dict[int, list[set[int]]] = {}
        """Odd pair → its panes by level."""

    @property
    def rows(self) -> UInt64s:
        """Valid until there are more of them, as is `hot`."""
        return self._rows.array

    @property
    def hot(self) -> UInt64s:
        """The hot slots."""
        return self._hot.array

    def __len__(self) -> int:
        return self.count

    def fold(self, uses: Uses, grace: Int64s, star: Int64s, pending: Pending, late: Contributions) -> None:
        """Take uses in order of arrival.

        Each counts for its cell and for its product's `star`. Differences of open ends go to `pending`, those of closed ends within
        grace to `late`.
        """
        n, row = len(uses[0]), 0
        pending.opening.fit(1 + int(max(star.max(initial=0), uses[2].max(initial=0))))
        ranges = np.empty((2 * kernels.SPARE_RANGES, 6), np.int64)
        found = np.empty((kernels.BLOCK + 3, 4), np.int64)
        odd = np.empty((2 * min(n, kernels.BLOCK), 2), np.int64)
        while row < n:
            self._fit(2 * min(n - row, kernels.BLOCK))
            pending.fit(len(star), 4 * kernels.SPARE_ENTRIES)
            counts = np.array([self.count, self.hot_count, 0, 0, pending.opening.count])
            row = self._sight((row, *uses, grace, star, LEVEL_TABLE, PLAN), pending, (ranges, odd, counts, found))
            self.count, self.hot_count, used, odds, pending.opening.count = counts.tolist()
            if used:
                _lay(ranges[:used], late)
            if odds:
                self._one_by_one(odd[:odds], uses, grace, pending, late)

    def find(self, cell: int, user: int) -> int:
        """Number of a pair, -1 where there is none."""
        number = np.empty(1, np.int64)
        find(np.array([cell << 32 | user], np.uint64), self.rows[:, 0], self.slots, number)
        return int(number[0])

    def put_aside(self, key: int, panes: list[set[int]]) -> None:
        """The pair of this key is odd, and was seen in these panes."""
        pair = self.find(key >> 32, key & _LOW)
        self.wide[pair] = panes
        self.rows[pair, 1] |= np.uint64(_ODD)

    def renumber(self, cells: Bools, user: int, to: int) -> None:
        """The user's pairs with the cells that `cells` marks go on with another number, which has none yet."""
        keys = self.rows[: self.count, 0]
        found = np.flatnonzero((keys & np.uint64(_LOW)) == np.uint64(user))
        found = found[cells[(keys[found] >> np.uint64(32)).astype(np.int64)]]
        keys[found] = keys[found] & np.uint64(_LOW << 32) | np.uint64(to)
        self.slots = empty_slots(self.count)
        place(self.rows[:, 0], self.slots, self.count)

    def users(self, cell: int) -> tuple[Int64s, Int64s]:
        """(pairs, users) of a cell."""
        keys = self.rows[: self.count, 0]
        found = np.flatnonzero((keys >> np.uint64(32)) == np.uint64(cell))
        return found, (keys[found] & np.uint64(_LOW)).astype(np.int64)

    def first(self, pair: int) -> int:
        """`time * 2 + organic` of the earliest use; the smaller wins, so at one millisecond the attributed one does."""
        return int(self.rows[pair, 1]) >> _DAY_BITS & (1 << _FIRST_BITS) - 1

    def firsts(self, pairs: Int64s) -> Int64s:
        """Times of the earliest uses of these pairs."""
        first = self.rows[pairs, 1] >> np.uint64(_DAY_BITS) & np.uint64((1 << _FIRST_BITS) - 1)
        times: Int64s = (first >> np.uint64(1)).astype(np.int64)
        return times

    def panes(self, pair: int) -> list[set[int]]:
        """The panes in which the pair was seen, by level, as far as they are kept."""
        if pair in self.wide:
            return self.wide[pair]
        _, about, tail = map(int, self.rows[pair])
        a, b, c, d, last, hours = map(int, self.hot[tail & _LOW, :6])
        fine = [panes(a, b, last >> 32), panes(c, d, last & _LOW), panes(hours & _LOW, 0, hours >> 32)]
        return [*fine, panes(tail >> 32, 0, about & 0xFFFF)]

    def active(self, pairs: Int64s, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of the pairs were seen in a day of `start` … `stop - 1`."""
        last = (self.rows[pairs, 1] & np.uint64(0xFFFF)).astype(np.int64)
        low = np.clip(last - stop + 1, 0, 32).astype(np.uint64)
        high = np.clip(last - start + 1, 0, 32).astype(np.uint64)
        one = np.uint64(1)
        mask = (one << high) - (one << low)
        seen: npt.NDArray[np.bool_] = (self.rows[pairs, 2] >> np.uint64(32) & mask) != 0
        seen &= high > low
        for i, pair in enumerate(pairs.tolist()) if self.wide else ():
            if pair in self.wide:
                seen[i] = any(start <= p < stop for p in self.wide[pair][-1])
        return seen

    def cool(self, watermarks: Int64s, cell_group: Int64s, grace: Int64s) -> None:
        """Free the hot slots whose fine panes concern no end within grace any more, when there are many."""
        now = int(watermarks.max())
        if self.hot_count < self.hot_limit or now < self.cooled_at + COOL_MS:
            return
        self.cooled_at = now
        hot = self.hot[1 : self.hot_count]
        pairs = hot[:, 6].astype(np.int64)
        groups = cell_group[(self.rows[pairs, 0] >> np.uint64(32)).astype(np.int64)]
        limit = watermarks[groups] - grace[groups]
        alive = np.zeros(len(hot), np.bool_)
        for level, word, shift in zip(LEVELS, (4, 4, 5), (32, 0, 32), strict=False):
            last = (hot[:, word] >> np.uint64(shift) & np.uint64(_LOW)).astype(np.int64)
            alive |= last + level.reach > limit // level.step
        self.rows[pairs, 2] &= np.uint64(_LOW << 32)
        kept = pairs[alive]
        self.rows[kept, 2] |= np.arange(1, len(kept) + 1, dtype=np.uint64)
        self._hot = Column(np.concatenate([self.hot[:1], hot[alive]]))
        self.hot_count = len(self.hot)
        self.hot_limit = max(1 << 16, 2 * self.hot_count)

    def nbytes(self) -> int:
        """Memory taken by rows that exist."""
        return self.slots.nbytes + self.count * 24 + self.hot_count * 64

    def _fit(self, more: int) -> None:
        self._rows.fit(self.count + more)
        self._hot.fit(self.hot_count + more)
        if self.count + more > len(self.slots) * LOAD:
            self.slots = empty_slots(self.count + more)
            place(self.rows[:, 0], self.slots, self.count)

    def _sight(self, uses: tuple[Any, ...], pending: Pending, work: tuple[Any, ...]) -> int:
        """Nobody holds the tables beyond the call: they grow where they are."""
        waiting = pending.opening.lines, pending.opening.waiting
        arguments: tuple[Any, ...] = (*uses, self.rows, self.slots, self.hot, *pending.table, *waiting, *work)
        return int(kernels.sight(*arguments))

    def _one_by_one(self, odd: Int64s, uses: Uses, grace: Int64s, pending: Pending, late: Contributions) -> None:
        groups, _, _, times, organics, watermarks = uses
        by_pair: dict[int, list[int]] = {}
        for row, pair in odd.tolist():
            by_pair.setdefault(pair, []).append(row)
        for pair, rows in by_pair.items():
            group = int(groups[rows[0]])
            known = self.panes(pair)
            self.wide.pop(pair, None)
            taken = [
                Use(int(times[r]) * 2 + int(organics[r]), _reach(int(times[r]), int(watermarks[r]), int(grace[group])))
                for r in rows
            ]
            work = Scalar()
            first = work.fold(int(self.rows[pair, 0]) >> 32, self.first(pair), known, taken)
            work.pour(group, pending, late)
            self._settle(pair, first, known, [kept for _, _, kept in taken[-1].reach])

    def _settle(self, pair: int, first: int, known: list[set[int]], kept: Sequence[int]) -> None:
        """Back into bitmaps, if they can hold what matters; else the pair stays odd."""
        # a bitmap must reach back from its newest pane to everything that still matters
        held = all(
            not p or (max(p) - k + level.reach < level.width and max(p) - min(p) < level.width)
            for p, k, level in zip(known, kept, LEVELS, strict=True)
        )
        if not held:
            self.wide[pair] = known
            self.rows[pair, 1] = np.uint64(_ODD | first << _DAY_BITS)
            return
        self._fit(1)
        slot = int(self.rows[pair, 2]) & _LOW
        if not slot:
            slot = self.hot_count
            self.hot_count += 1
        tens, minutes, hours, days = (bitmap(p, level.width) for p, level in zip(known, LEVELS, strict=True))
        self.rows[pair, 1:] = first << _DAY_BITS | days[2], days[0] << 32 | slot
        words = tens[0], tens[1], minutes[0], minutes[1], tens[2] << 32 | minutes[2], hours[2] << 32 | hours[0], pair
        self.hot[slot, :7] = np.array(words, np.uint64)


def _reach(time: int, watermark: int, grace: int) -> list[tuple[int, int, int]]:
    return [(time // at.step, watermark // at.step + 1, (watermark - grace) // at.step + 1) for at in LEVELS]


def _lay(ranges: Int64s, late: Contributions) -> None:
    """Ranges of closed ends (window, cell, start, stop, users, organic) to their windows."""
    for number, name in enumerate(late):
        mine = ranges[ranges[:, 0] == number]
        if len(mine):
            reach = np.ascontiguousarray(mine.T)
            late[name].between(reach[1], reach[2], reach[3], [(USERS, reach[4]), (ORGANIC, reach[5])])
