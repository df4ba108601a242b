"""Pairs: who used what when. One row per existing (cell, user), exact and small.

All pairs keep their first use and a bitmap of days; those used within the last day also have a *hot* slot with bitmaps of the
finer panes. What columns cannot say (a first use that turns out to be earlier and of another origin, a pane far ahead of the
watermark) goes through `scalar`, pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.meter.index import KeyIndex, UInt64s, grown
from core.meter.levels import LEVELS, Marks
from core.meter.scalar import Scalar, Use
from core.meter.tally import Contributions, Reach, between

USERS: Final = 0
EVENTS: Final = 1
ORGANIC: Final = 2
COLUMNS: Final = ("users", "events", "organic")

UNUSED: Final = (1 << 43) - 1
"""First use of a pair that has none yet: later than any."""
COOL_MS: Final = 6 * 3_600_000
"""A hot slot lives at least a day of event time, so looking for dead ones more often than this would find few."""
_ARRIVAL: Final = 21
"""Bits for the position of an entry within its batch."""
MAX_ENTRIES: Final = 1 << 20


class Pairs:
    """The pairs of one partition. A key is `cell << 32 | user`."""

    def __init__(self) -> None:
        self.index = KeyIndex()
        self.first: Int64s = np.zeros(0, np.int64)
        """Earliest use: `time * 2 + organic`; the smaller wins, so at one millisecond the attributed one does."""
        self.hot: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        """Hot slot, 0 for none."""
        self.days = Marks(LEVELS[-1])
        self.fine = [Marks(level) for level in LEVELS[:-1]]
        self.hot_pair: npt.NDArray[np.int32] = np.zeros(1, np.int32)
        self.hot_count = 1
        self.hot_limit = 1 << 16
        self.cooled_at = 0
        self.wide: dict[int, list[set[int]]] = {}
        """Pair → its panes by level, where a bitmap cannot hold them."""

    def __len__(self) -> int:
        return self.index.count

    def fold(self, keys: UInt64s, packed: Int64s, by_level: Sequence[Reach], out: Contributions) -> None:
        """Take uses in order of arrival. `packed` is `time * 2 + organic`."""
        known = self.index.count
        pairs = self.index.get_or_add(keys)
        count = self.index.count
        if count > known:
            self.first = grown(self.first, count, UNUSED)
            self.hot = grown(self.hot, count)
            self.days.grow(count)
        ordered = np.sort((pairs << _ARRIVAL) | np.arange(len(pairs)))
        pairs, arrival = ordered >> _ARRIVAL, ordered & ((1 << _ARRIVAL) - 1)
        packed = packed[arrival]
        cells = (keys[arrival] >> np.uint64(32)).astype(np.int64)
        by_level = [reach.of(arrival) for reach in by_level]
        head = np.append(True, pairs[1:] != pairs[:-1])
        start = np.flatnonzero(head)
        segment = np.cumsum(head) - 1
        earliest = np.minimum(packed, self.first[pairs])
        lift = (len(start) - segment) << 43
        earliest = np.minimum.accumulate(earliest + lift) - lift
        prior = np.append(0, earliest[:-1])
        prior[start] = self.first[pairs[start]]
        trouble = (prior != UNUSED) & (((prior ^ earliest) & 1) == 1)
        relevant = []
        for level, reach in zip(LEVELS, by_level, strict=True):
            ahead = reach.pane - reach.kept + level.reach
            relevant.append(ahead >= 0)
            trouble |= ahead >= level.width
        if self.wide:
            trouble |= np.isin(pairs, np.fromiter(self.wide, np.int64, len(self.wide)))
        hot = self._heat(pairs, start)
        smooth = None
        if trouble.any():
            troubled = np.logical_or.reduceat(trouble, start)[segment]
            smooth = ~troubled
            self._one_by_one(np.flatnonzero(troubled), pairs, hot, cells, packed, by_level, out)
        else:
            tail = np.append(start[1:], len(pairs)) - 1
            self.first[pairs[start]] = earliest[tail]
        if smooth is not None:
            rows = np.flatnonzero(smooth & np.append(pairs[1:] != pairs[:-1], True))
            self.first[pairs[rows]] = earliest[rows]
        organic = earliest & 1
        for i, (level, reach) in enumerate(zip(LEVELS, by_level, strict=True)):
            wanted = relevant[i] if smooth is None else relevant[i] & smooth
            slots = pairs if i == len(self.fine) else hot
            marks = self.days if i == len(self.fine) else self.fine[i]
            if wanted.all():
                sight = marks.see(slots, reach.pane)
                rows = sight.rows
            else:
                some = np.flatnonzero(wanted)
                sight = marks.see(slots[some], reach.pane[some])
                rows = some[sight.rows]
            if not len(rows):
                continue
            seen, at = reach.of(rows), cells[rows]
            columns: list[tuple[int, Int64s | None]] = [(USERS, None), (ORGANIC, organic[rows])]
            for name, k in level.windows:
                first = np.maximum(seen.pane + 1, sight.before + k + 1)
                between(out[name], columns, at, seen, first, np.minimum(seen.pane + k, sight.after) + 1)

    def _heat(self, pairs: Int64s, start: Int64s) -> Int64s:
        """Hot slots of the pairs (equal ones stand together, beginning at `start`); those without get one."""
        heads = pairs[start]
        cold = heads[self.hot[heads] == 0]
        if len(cold):
            first, self.hot_count = self.hot_count, self.hot_count + len(cold)
            self.hot_pair = grown(self.hot_pair, self.hot_count)
            self.hot_pair[first : self.hot_count] = cold
            self.hot[cold] = np.arange(first, self.hot_count)
            for marks in self.fine:
                marks.grow(self.hot_count)
        return self.hot[pairs].astype(np.int64)

    def _one_by_one(
        self,
        rows: Int64s,
        pairs: Int64s,
        hot: Int64s,
        cells: Int64s,
        packed: Int64s,
        by_level: Sequence[Reach],
        out: Contributions,
    ) -> None:
        numbers = pairs[rows]
        heads = np.append(0, np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()
        work = Scalar()
        for i, j in zip(heads, [*heads[1:], len(rows)], strict=True):
            pair, slot = int(numbers[i]), int(hot[rows[i]])
            panes = self.wide.pop(pair, None) or [
                *(marks.panes(slot) for marks in self.fine),
                self.days.panes(pair),
            ]
            uses = [
                Use(int(packed[r]), [(int(a.pane[r]), int(a.open[r]), int(a.kept[r])) for a in by_level])
                for r in rows[i:j].tolist()
            ]
            self.first[pair] = work.fold(int(cells[rows[i]]), int(self.first[pair]), panes, uses)
            held = [marks.put(slot, p) for marks, p in zip(self.fine, panes[:-1], strict=True)]
            held.append(self.days.put(pair, panes[-1]))
            # a bitmap must reach back from its newest pane to everything that still matters
            kept = [k for _, _, k in uses[-1].reach]
            far = [
                bool(p) and max(p) - k + level.reach >= level.width
                for p, k, level in zip(panes, kept, LEVELS, strict=True)
            ]
            if any(far) or not all(held):
                self.wide[pair] = panes
        work.pour(out)

    def cool(self, watermarks: Int64s, cell_group: Int64s, grace: Int64s) -> None:
        """Free the hot slots whose fine panes concern no end within grace any more, when there are many."""
        now = int(watermarks.max())
        if self.hot_count < self.hot_limit or now < self.cooled_at + COOL_MS:
            return
        self.cooled_at = now
        slots = np.arange(1, self.hot_count)
        pairs = self.hot_pair[1 : self.hot_count].astype(np.int64)
        groups = cell_group[(self.index.keys[pairs] >> np.uint64(32)).astype(np.int64)]
        limit = watermarks[groups] - grace[groups]
        alive = np.zeros(len(slots), np.bool_)
        for level, marks in zip(LEVELS, self.fine, strict=False):
            alive |= marks.last[slots] + level.reach > limit // level.step
        if self.wide:
            alive |= np.isin(pairs, np.fromiter(self.wide, np.int64, len(self.wide)))
        kept = slots[alive]
        self.hot[pairs] = 0
        self.hot_count = len(kept) + 1
        self.hot[pairs[alive]] = np.arange(1, self.hot_count)
        self.hot_pair = np.append(0, pairs[alive]).astype(np.int32)
        old, self.fine = self.fine, [Marks(level) for level in LEVELS[:-1]]
        for before, marks in zip(old, self.fine, strict=True):
            marks.take(before, kept)
        self.hot_limit = max(1 << 16, 2 * self.hot_count)

    def nbytes(self) -> int:
        """Memory taken by rows that exist."""
        a_pair = 8 + 4 + 4 + 4
        a_slot = 4 + sum(4 + (16 if level.wide else 4) for level in LEVELS[:-1])
        return self.index.nbytes() + len(self) * a_pair + self.hot_count * a_slot
