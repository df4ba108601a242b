"""Figures of one window of one product: sums over the source partitions, their recent history, and corrections.

A source's patches name the newest figure of each cell; what is kept of them is the *difference* to the one before. Sums
are differences added up, so an end is judged by adding the differences queued under it, whatever source they are from.
The differences stay for a while (`log`): they say what a source, or the sum, stood at on an earlier end, which is what a
correction (a later version of a closed end) is measured against. Of ends far ahead nothing else is kept: as event time
comes near, a stretch of them is queued, all sources' differences of an end as one.

Cells are indices of names (feature, service …) that the owner hands out; 0 is always `*`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from core.batch import Int64s
from core.decide.attic import Attic
from core.decide.history import TICK, Entries, History, merged
from core.decide.packing import Integers, narrow

PAGE = 256
"""Cells a state page holds."""
_AHEAD_MS, _MOST_AHEAD_MS = 600_000, 7_200_000
"""How far beyond the judged end differences stand in the queue: as far as `_AHEAD_ROWS` go, between these."""
_AHEAD_ROWS = 2_048
_SHIFT = 34
_CELL_BITS = 29
"""Of a key of end and cell, those of the cell."""
_NONE = np.zeros(0, np.int64)


def _single(entries: Entries) -> Entries:
    """The entries, those of the same end and cell as one: a patch that came late stands under another end."""
    keys = (entries.ends // TICK << _CELL_BITS) | entries.cells
    distinct, first, place = np.unique(keys, return_index=True, return_inverse=True)
    if len(distinct) == len(keys):
        return entries
    deltas = np.zeros((len(distinct), entries.deltas.shape[1]), np.int64)
    np.add.at(deltas, place, entries.deltas)
    return Entries(entries.ends[first], entries.cells[first], deltas)


def groups(ends: Int64s, *columns: Int64s) -> Iterator[Any]:
    """(end, part of each column) for each run of equal ends."""
    cuts = [0, *(np.flatnonzero(ends[1:] != ends[:-1]) + 1).tolist(), len(ends)]
    for i, j in pairwise(cuts):
        if j > i:
            yield int(ends[i]), *(column[i:j] for column in columns)


class Figures:
    """`current[source, cell]` is a source's newest figure, `totals[cell]` the sum at the newest judged end."""

    def __init__(self, sources: int, width: int, attic: Attic | None = None) -> None:
        attic = attic or Attic()
        self.sources, self.width = sources, width
        self.current = np.zeros((sources, 16, width), np.int64)
        self.totals = np.zeros((16, width), np.int64)
        self.judged = -1
        """The newest end whose differences are in `totals`, or later."""
        self._queued: dict[int, list[tuple[Int64s, Int64s]]] = defaultdict(list)
        """End, up to `_reach` → (cells, differences), no cell twice in one part."""
        self._reach = -1
        self._ahead = _AHEAD_MS
        self.log = [History(width, attic) for _ in range(sources)]
        self.fixes: dict[int, dict[int, Integers]] = defaultdict(dict)
        """End → source → newest figures less those of version 0, by cell."""
        self.fresh: list[tuple[int, Entries]] = []
        """(source, entries) taken in since the last checkpoint."""
        self.dirty_pages: set[tuple[int, int]] = set()
        self.dirty_fixes: set[tuple[int, int]] = set()

    def grow(self, cells: int) -> None:
        """Room for this many cells."""
        have = self.totals.shape[0]
        if cells <= have:
            return
        size = max(cells, have * 2)
        current = np.zeros((self.sources, size, self.width), np.int64)
        current[:, :have] = self.current
        totals = np.zeros((size, self.width), np.int64)
        totals[:have] = self.totals
        self.current, self.totals = current, totals

    # --- taking in --------------------------------------------------------------------------------------------------

    def take(self, source: int, ends: Int64s, cells: Int64s, values: Int64s) -> None:
        """Version-0 figures of a source, in the order in which it published them (ends never fall)."""
        order = np.argsort(cells, kind="stable")
        by_cell, sorted_values = cells[order], values[order]
        begins = np.concatenate([[True], by_cell[1:] != by_cell[:-1]])
        before = np.empty_like(sorted_values)
        before[1:] = sorted_values[:-1]
        before[begins] = self.current[source, by_cell[begins]]
        deltas = np.empty_like(values)
        deltas[order] = sorted_values - before
        finals = np.concatenate([begins[1:], [True]])
        self.current[source, by_cell[finals]] = sorted_values[finals]
        self.dirty_pages.update((source, int(p)) for p in np.unique(cells // PAGE))
        entries = Entries(ends, cells, deltas)
        self.log[source].add(entries)
        self.fresh.append((source, entries))
        near = ends <= self._reach
        if near.any():
            self._queue(entries if near.all() else entries.where(near))

    def _queue(self, entries: Entries) -> None:
        for end, cells, deltas in groups(*_single(entries).columns()):
            self._queued[end].append((cells, deltas))

    def _come_to(self, end: int) -> None:
        """Queue what the sources said of ends up to this one, and of a stretch beyond."""
        if end <= self._reach:
            return
        before, self._reach = self._reach, end + self._ahead
        parts = [part for log in self.log for part in log.between(before, self._reach)]
        few = sum(map(len, parts)) < _AHEAD_ROWS
        self._ahead = min(self._ahead * 2, _MOST_AHEAD_MS) if few else max(self._ahead // 4, _AHEAD_MS)
        if parts:
            self._queue(merged(parts, self.width).ordered())

    def fix(self, source: int, ends: Int64s, cells: Int64s, values: Int64s) -> None:
        """Newest figures of a source at ends that it has closed before; a later one for the same cell replaces."""
        gaps = values - self.version_0(source, ends, cells)
        for end, of, gap in groups(ends, cells, gaps):
            held = self.fixes[end].get(source)
            kept = len(held) if held is not None else 0
            grown = np.zeros((max(int(of.max()) + 1, kept), self.width), np.int64)
            if held is not None:
                grown[:kept] = held
            grown[of] = gap  # of equal cells the last one stands
            self.fixes[end][source] = narrow(grown)
            self.dirty_fixes.add((end, source))

    # --- recovery ---------------------------------------------------------------------------------------------------

    def restore(self, source: int, entries: Entries) -> None:
        """Take differences back in that `current` already holds."""
        self.log[source].add(entries)

    def restored(self, judged: int) -> None:
        """All is back: the sums are what the sources stand at, less what waits to be judged."""
        self.judged = self._reach = judged
        self.totals = self.current.sum(axis=0)
        for log in self.log:
            for waiting in log.between(judged):
                np.subtract.at(self.totals, waiting.cells, waiting.deltas)

    def waiting(self) -> set[int]:
        """The ends that wait to be judged."""
        return {int(e) for log in self.log for part in log.between(self.judged) for e in np.unique(part.ends)}

    # --- judging ----------------------------------------------------------------------------------------------------

    def waits(self, end: int) -> bool:
        """Whether something waits for `end` to be judged, which is the next one."""
        self._come_to(end)
        return end in self._queued

    def add(self, end: int) -> None:
        """Add what is queued under `end`."""
        self._come_to(end)
        self.judged = end
        for cells, deltas in self._queued.pop(end, ()):
            self.totals[cells] += deltas

    def apply(self, end: int) -> Int64s:
        """Add what is queued under `end`; the cells whose sums changed."""
        self._come_to(end)
        self.judged = end
        queued = self._queued.pop(end, None)
        if queued is None:
            return _NONE
        cells = np.concatenate([c for c, _ in queued])
        touched = np.unique(cells)
        before = self.totals[touched]
        np.add.at(self.totals, cells, np.concatenate([d for _, d in queued]))
        changed: Int64s = touched[(self.totals[touched] != before).any(axis=1)]
        return changed

    # --- looking back -----------------------------------------------------------------------------------------------

    def version_0(self, source: int, ends: Int64s, cells: Int64s) -> Int64s:
        """What the source's cells stood at on these ends, as far back as the log goes."""
        log = merged(list(self.log[source].between(int(ends.min()))), self.width)
        keys = (log.cells << _SHIFT) | (log.ends // TICK)
        order = np.argsort(keys)
        keys = keys[order]
        sums = np.zeros((len(log) + 1, self.width), np.int64)
        np.cumsum(log.deltas[order], axis=0, out=sums[1:])
        low = np.searchsorted(keys, (cells << _SHIFT) | (ends // TICK), side="right")
        high = np.searchsorted(keys, (cells + 1) << _SHIFT, side="left")
        result: Int64s = self.current[source, cells] - (sums[high] - sums[low])
        return result

    def newest(self, ends: Iterable[int]) -> dict[int, Int64s]:
        """The sums at these judged ends, corrections included."""
        wanted = sorted(set(ends), reverse=True)
        if not wanted:
            return {}
        sums = self.totals.copy()
        result: dict[int, Int64s] = {}
        if wanted[-1] < self.judged:
            parts = [part for log in self.log for part in log.between(wanted[-1], self.judged)]
            log = merged(parts, self.width).ordered()
        else:
            log = merged([], self.width)
        at = len(log)
        for end in wanted:
            cut = int(np.searchsorted(log.ends, end, side="right"))
            np.subtract.at(sums, log.cells[cut:at], log.deltas[cut:at])
            at = cut
            result[end] = self.corrected(sums.copy(), end)
        return result

    def corrected(self, sums: Int64s, end: int) -> Int64s:
        """Add the corrections of `end` to `sums`, in place."""
        for gap in self.fixes.get(end, {}).values():
            sums[: len(gap)] += gap
        return sums

    def forget(self, until: int) -> list[tuple[int, int]]:
        """Drop history of ends at or before `until`; the (end, source) pairs whose corrections went."""
        for log in self.log:
            log.forget(until)
        gone = [(end, source) for end, by_source in self.fixes.items() if end <= until for source in by_source]
        for end, _ in gone:
            self.fixes.pop(end, None)
        return gone
