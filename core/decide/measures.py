"""Measures: the names of one kind of figures (usage, performance or feedback) of a product, and its five windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from core.batch import Int64s
from core.decide.attic import Attic
from core.decide.figures import Figures
from core.decide.slots import GRID
from schemas.registers import ALL, RATING_COLUMNS, WINDOWS, Patch, Registers

USAGE_COLUMNS = ("users", "events", "organic")
PERFORMANCE_COLUMNS = ("requests", "errors", "satisfied", "tolerating", "latency_sum_us")
USERS, EVENTS, ORGANIC = range(3)
REQUESTS, ERRORS, SATISFIED, TOLERATING, LATENCY_SUM_US = range(5)
FEEDBACK_COLUMNS = RATING_COLUMNS
RATINGS, RATING_SUM = range(2)


class Correction(NamedTuple):
    """Newest figures of ends that a source had closed before."""

    window: str
    ends: Int64s
    cells: Int64s
    values: Int64s


class Measures:
    """Figures of every window under one numbering of names. Cell 0 is `*`."""

    def __init__(self, sources: int, columns: tuple[str, ...], attic: Attic | None = None) -> None:
        attic = attic or Attic()
        self.columns = columns
        self.names: list[str] = [ALL]
        self.cell: dict[str, int] = {ALL: 0}
        self.windows = {w: Figures(sources, len(columns), attic) for w in WINDOWS}

    def __len__(self) -> int:
        return len(self.names)

    def cells(self, names: Iterable[str]) -> Int64s:
        """The cells of these names; new names get the next ones."""
        known = self.cell
        found = [known.get(name, -1) for name in names]
        if -1 in found:
            for i, name in enumerate(names):
                if found[i] < 0:
                    found[i] = known.setdefault(name, len(self.names))
                    if found[i] == len(self.names):
                        self.names.append(name)
            for figures in self.windows.values():
                figures.grow(len(self.names))
        return np.array(found, np.int64)

    def take(self, record: Registers, judged: int) -> tuple[set[int], list[Correction]]:
        """Queue the record's version-0 patches; the ends they are queued under, and its corrections of kept ends.

        A patch that comes for an end already judged (a source that broke its promise) is queued under the next one.
        """
        numbered = self.cells(record.names)
        first: dict[str, list[Patch]] = defaultdict(list)
        later: dict[str, list[Patch]] = defaultdict(list)
        for patch in record.patches:
            if patch.version == 0:
                first[patch.window].append(patch)
            elif patch.end % GRID[patch.window] == 0:
                later[patch.window].append(patch)
        ends: set[int] = set()
        for window, patches in first.items():
            step = WINDOWS[window][1]
            soonest = (judged // step + 1) * step
            at, cells, values = self._columns(record, patches, numbered, soonest)
            self.windows[window].take(record.partition, at, cells, values)
            ends.update(max(p.end, soonest) for p in patches)
        return ends, [Correction(w, *self._columns(record, patches, numbered)) for w, patches in later.items()]

    def _columns(
        self, record: Registers, patches: list[Patch], numbered: Int64s, soonest: int = 0
    ) -> tuple[Int64s, Int64s, Int64s]:
        """The patches as columns: end and cell of each figure, and the figures."""
        counts = [len(p.columns[0]) // 8 for p in patches]
        ends = np.repeat(np.array([max(p.end, soonest) for p in patches], np.int64), counts)
        return ends, numbered[_indices(patches)], self.values(record, patches)

    def values(self, record: Registers, patches: list[Patch]) -> Int64s:
        """The patches' figures, one row a cell, in the order of `columns`; a column not sent is zero."""
        rows = sum(len(p.columns[0]) for p in patches) // 8
        table = np.zeros((rows, len(self.columns)), np.int64)
        for i, column in enumerate(record.columns):
            table[:, self.columns.index(column)] = np.frombuffer(b"".join([p.columns[i] for p in patches]), "<i8")
        return table


def _indices(patches: list[Patch]) -> Int64s:
    """Cells as sent: four or eight bytes each, as many as the columns have values."""
    raw = b"".join([p.cells for p in patches])
    count = sum(len(p.columns[0]) for p in patches) // 8
    return np.frombuffer(raw, "<i4" if len(raw) == 4 * count else "<i8").astype(np.int64)
