"""Pending: the differences of window ends that are not closed yet, of all products and windows of a source."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.kernels import pending as kernels
from core.meter.index import LOAD, UInt32s, UInt64s, grown, slots_for
from core.meter.levels import PLAN

_EVER: Final = 1 << 62
WINDOWS: Final = len(PLAN)
MAX_CELLS: Final = 1 << 29
"""Cells of a source that the table's keys have room for."""


Table = tuple[UInt64s, UInt32s, npt.NDArray[np.int32], Int64s, npt.NDArray[np.int32], Int64s, Int64s]


class Pending:
    """(window, cell, end) → values. Windows are numbered as in `PLAN`; cells are the source's."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._keys: UInt64s = np.zeros(0, np.uint64)
        self._slots: UInt32s = np.zeros(slots_for(0), np.uint32)
        self._next: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._values: Int64s = np.zeros((0, columns), np.int64)
        self._heads: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        """By product and window, the first entry; -1: none."""
        self._low: Int64s = np.zeros(0, np.int64)
        """By product and window, no entry's end is before this one."""
        self._meta: Int64s = np.array([0, -1, 0])

    def __len__(self) -> int:
        return int(self._meta[2])

    def fit(self, groups: int, more: int) -> None:
        """Make room for so many products, and so many entries more."""
        chains = groups * WINDOWS
        if chains > len(self._heads):
            self._heads = grown(self._heads, chains, -1)
            self._low = grown(self._low, len(self._heads), _EVER)
        if len(self) + more > len(self._keys):
            self._keys = grown(self._keys, len(self) + more)
            self._next = grown(self._next, len(self._keys))
            self._values = grown(self._values, len(self._keys))
        if len(self) + more > len(self._slots) * LOAD:
            self._slots = np.zeros(slots_for(len(self) + more), np.uint32)
            kernels.place_used(self._keys, self._slots, int(self._meta[0]))

    @property
    def table(self) -> Table:
        """What kernels take; valid until the next `fit`."""
        return self._keys, self._slots, self._next, self._values, self._heads, self._low, self._meta

    def add(self, group: int, window: int, ends: Int64s, cells: Int64s, values: Int64s) -> None:
        """Add differences of one product's window."""
        self.fit(group + 1, len(ends))
        kernels.add(window, group * WINDOWS + window, ends, cells, np.ascontiguousarray(values), *self.table)

    def due(self, group: int, window: int, upto: int) -> bool:
        """Whether some end up to `upto` may have differences."""
        chain = group * WINDOWS + window
        return chain < len(self._low) and int(self._low[chain]) <= upto

    def take(self, group: int, window: int, upto: int) -> tuple[Int64s, Int64s, Int64s]:
        """(ends, cells, values) of the ends up to `upto`, in no order; they are gone from here."""
        return self._collect(group, window, upto, True)

    def peek(self, group: int, window: int) -> tuple[Int64s, Int64s, Int64s]:
        """All that waits for one product's window, in no order."""
        return self._collect(group, window, _EVER, False)

    def _collect(self, group: int, window: int, upto: int, take: bool) -> tuple[Int64s, Int64s, Int64s]:
        chain, room = group * WINDOWS + window, 256
        while chain < len(self._heads):
            ends, cells = np.empty(room, np.int64), np.empty(room, np.int64)
            values = np.empty((room, self.columns), np.int64)
            count = kernels.collect(chain, upto, ends, cells, values, *self.table, take)
            if count <= room:
                return ends[:count], cells[:count], values[:count]
            room = count
        none = np.zeros(0, np.int64)
        return none, none, np.zeros((0, self.columns), np.int64)
