"""What rows have added, and no end of a window has been told yet: nobody asks before a watermark passes a border.

A row of a cell adds to two ends of each window, and so do the next thousand of the same cell and pane: their sum is told once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.kernels import tally as kernels
from core.kernels.opening import pour
from core.meter.index import KeyIndex, UInt32s, UInt64s, grown
from core.meter.levels import LEVEL_TABLE, LEVELS, PLAN
from core.meter.memory import Column

Int32s = npt.NDArray[np.int32]
Table = tuple[UInt64s, UInt32s, Int32s, Int64s, Int32s, Int64s, Int64s]
"""Of differences of ends, as kernels take it: `core.kernels.pending`."""
_FINEST: Final = LEVELS[0].step
_BLOCK: Final = 1 << 14
"""Rows that are added together: there must be room as if no two were of one cell and pane."""
_ROOMY: Final = 16
"""So many slots for a sum, or for a block's row, are more than anybody would empty each time: they were made for some rare flood."""


class Sums:
    """Sums of rows by (cell, finest pane)."""

    def __init__(self, columns: int) -> None:
        self._index = KeyIndex()
        self._sums = Column.empty(np.int64, columns)
        self._cell_group: Int64s = np.zeros(1, np.int64)

    @property
    def entries(self) -> int:
        """Entries of differences that they may take."""
        return 2 * len(PLAN) * self._index.count

    def add(
        self, kinds: Int64s, full: int, weights: Int64s, times: Int64s, watermarks: Int64s, cell_group: Int64s
    ) -> Int64s:
        """Add rows, as `tally` takes them. Which of them are late, their finest pane's own end being closed: these are not added."""
        n, index, late = len(times), self._index, 0
        behind = np.empty(n, np.int64)
        for start in range(0, n, _BLOCK):
            some = slice(start, start + _BLOCK)
            index.room(kinds[:, some].size)
            self._sums.fit(len(index.keys))
            index.count, more = kernels.gather(
                kinds[:, some],
                full,
                weights[some],
                times[some],
                watermarks[some],
                _FINEST,
                index.keys,
                index.slots,
                self._sums.array,
                index.count,
                behind[late:],
            )
            behind[late : late + more] += start
            late += more
        self._cell_group = cell_group
        return behind[:late]

    def pour(self, table: Table) -> None:
        """To the ends, which have room for `entries`."""
        index = self._index
        kernels.deal(index.keys, self._sums.array, index.count, self._cell_group, _FINEST, PLAN, *table)
        if len(index.slots) > _ROOMY * (index.count + _BLOCK):
            self._index, self._sums = KeyIndex(), Column.empty(np.int64, self._sums.array.shape[1])
            return
        index.count = 0
        index.slots.fill(0)


class Opening:
    """Sightings of pairs that no other is near, by cell and level (`core.kernels.opening`)."""

    def __init__(self) -> None:
        self.lines: Int32s = np.zeros((0, len(LEVELS), 4), np.int32)
        self.waiting: Int32s = np.zeros(0, np.int32)
        """Lines that are not empty, the first `count`."""
        self.count = 0

    def fit(self, cells: int) -> None:
        """Make room for so many cells."""
        self.lines = grown(self.lines, cells)
        self.waiting = grown(self.waiting, self.lines.shape[0] * len(LEVELS))

    def pour(self, table: Table) -> None:
        """As many as there is room for go to the ends."""
        self.count = pour(self.count, self.lines, self.waiting, LEVEL_TABLE, PLAN, *table)
