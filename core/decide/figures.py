"""Figures of one window of one product: sums over the source partitions, their recent history, and corrections.

A source's patches name the newest figure of each cell; what is kept of them is the *difference* to the one before. Sums
are differences added up, so an end is judged by adding the differences queued under it, whatever source they are from.
The differences stay for a while (`log`): they say what a source, or the sum, stood at on an earlier end, which is what a
correction (a later version of a closed end) is measured against.

Cells are indices of names (feature, service …) that the owner hands out; 0 is always `*`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from core.batch import Int64s

PAGE = 256
"""Cells a state page holds."""
_TICK = 10_000
"""Every window end is a multiple of this."""
_SHIFT = 34
_CELL_BITS = 29
"""Of a key of end and cell, those of the cell."""
_MERGE_AT = 64
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Entries:
    """Differences: at `ends[i]` the figures of cell `cells[i]` changed by `deltas[i]`."""

    ends: Int64s
    cells: Int64s
    deltas: Int64s

    def __len__(self) -> int:
        return len(self.ends)

    def columns(self) -> tuple[Int64s, Int64s, Int64s]:
        """ends, cells, deltas."""
        return self.ends, self.cells, self.deltas

    def where(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Entries:
        """The entries that the mask, or the list of indices, names."""
        return Entries(self.ends[mask], self.cells[mask], self.deltas[mask])


def merged(parts: list[Entries], width: int) -> Entries:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.zeros(0, np.int64)
        return Entries(none, none, np.zeros((0, width), np.int64))
    return Entries(
        np.concatenate([p.ends for p in parts]),
        np.concatenate([p.cells for p in parts]),
        np.concatenate([p.deltas for p in parts]),
    )


def _single(entries: Entries) -> Entries:
    """The entries, those of the same end and cell as one: a patch that came late stands under another end."""
    keys = (entries.ends // _TICK << _CELL_BITS) | entries.cells
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

    def __init__(self, sources: int, width: int) -> None:
        self.sources, self.width = sources, width
        self.current = np.zeros((sources, 16, width), np.int64)
        self.totals = np.zeros((16, width), np.int64)
        self.judged = -1
        """The newest end whose differences are in `totals`, or later."""
        self.pending: dict[int, list[tuple[Int64s, Int64s]]] = defaultdict(list)
        """End → (cells, differences), no cell twice in one part."""
        self.log: list[list[Entries]] = [[] for _ in range(sources)]
        self.fixes: dict[int, dict[int, Int64s]] = defaultdict(dict)
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
        self._remember(source, entries)
        self.fresh.append((source, entries))
        self._queue(entries)

    def _queue(self, entries: Entries) -> None:
        for end, cells, deltas in groups(*_single(entries).columns()):
            self.pending[end].append((cells, deltas))

    def _remember(self, source: int, entries: Entries) -> None:
        log = self.log[source]
        log.append(entries)
        if len(log) > _MERGE_AT:
            self.log[source] = [merged(log, self.width)]

    def fix(self, source: int, ends: Int64s, cells: Int64s, values: Int64s) -> None:
        """Newest figures of a source at ends that it has closed before; a later one for the same cell replaces."""
        gaps = values - self.version_0(source, ends, cells)
        for end, of, gap in groups(ends, cells, gaps):
            held = self.fixes[end].get(source)
            size = int(of.max()) + 1
            if held is None or len(held) < size:
                grown = np.zeros((max(size, self.totals.shape[0]), self.width), np.int64)
                if held is not None:
                    grown[: len(held)] = held
                self.fixes[end][source] = held = grown
            held[of] = gap  # of equal cells the last one stands
            self.dirty_fixes.add((end, source))

    # --- recovery ---------------------------------------------------------------------------------------------------

    def restore(self, source: int, entries: Entries, judged: int) -> None:
        """Take differences back in that `current` already holds."""
        self._remember(source, entries)
        waiting = entries.where(entries.ends > judged)
        if len(waiting):
            self._queue(waiting)

    def restored(self, judged: int) -> None:
        """All is back: the sums are what the sources stand at, less what waits to be judged."""
        self.judged = judged
        self.totals = self.current.sum(axis=0)
        for queued in self.pending.values():
            for cells, deltas in queued:
                np.subtract.at(self.totals, cells, deltas)

    # --- judging ----------------------------------------------------------------------------------------------------

    def add(self, end: int) -> None:
        """Add what is queued under `end`."""
        self.judged = end
        for cells, deltas in self.pending.pop(end, ()):
            self.totals[cells] += deltas

    def apply(self, end: int) -> Int64s:
        """Add what is queued under `end`; the cells whose sums changed."""
        self.judged = end
        queued = self.pending.pop(end, None)
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
        log = merged(self.log[source], self.width)
        log = log.where(log.ends > ends.min())
        keys = (log.cells << _SHIFT) | (log.ends // _TICK)
        order = np.argsort(keys)
        keys = keys[order]
        sums = np.zeros((len(log) + 1, self.width), np.int64)
        np.cumsum(log.deltas[order], axis=0, out=sums[1:])
        low = np.searchsorted(keys, (cells << _SHIFT) | (ends // _TICK), side="right")
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
            parts = [e.where((e.ends > wanted[-1]) & (e.ends <= self.judged)) for log in self.log for e in log]
            log = merged([p for p in parts if len(p)], self.width)
            order = np.argsort(log.ends, kind="stable")
            log = log.where(order)
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
        for source, log in enumerate(self.log):
            if log and int(log[0].ends[0]) <= until:
                kept = [e if int(e.ends.min()) > until else e.where(e.ends > until) for e in log]
                self.log[source] = [e for e in kept if len(e)]
        gone = [(end, source) for end, by_source in self.fixes.items() if end <= until for source in by_source]
        for end, _ in gone:
            self.fixes.pop(end, None)
        return gone
