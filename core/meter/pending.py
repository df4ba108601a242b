"""Pending: the differences of window ends that are not closed yet, of all products and windows of a source."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.kernels import pending as kernels
from core.kernels.sight import SPARE_ENTRIES
from core.meter.index import LOAD, empty_slots, grown
from core.meter.levels import PLAN
from core.meter.memory import Column
from core.meter.waiting import Opening, Sums, Table

_EVER: Final = 1 << 62
WINDOWS: Final = len(PLAN)
MAX_CELLS: Final = 1 << 29
"""Cells of a source that the table's keys have room for."""


class Pending:
    """(window, cell, end) → values. Windows are numbered as in `PLAN`; cells are the source's."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._keys = Column.empty(np.uint64)
        self._slots = empty_slots(0)
        self._next = Column.empty(np.int32)
        self._values = Column.empty(np.int64, columns)
        self._heads: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        """By product and window, the first entry; -1: none."""
        self._low: Int64s = np.zeros(0, np.int64)
        """By product and window, no entry's end is before this one."""
        self._meta: Int64s = np.array([0, -1, 0])
        self.sums = Sums(columns)
        self.opening = Opening()

    def __len__(self) -> int:
        return int(self._meta[2])

    def fit(self, groups: int, more: int) -> None:
        """Make room for so many products, and so many entries more."""
        chains = groups * WINDOWS
        if chains > len(self._heads):
            self._heads = grown(self._heads, chains, -1)
            self._low = grown(self._low, len(self._heads), _EVER)
        for column in (self._keys, self._next, self._values):
            column.fit(len(self) + more)
        if len(self) + more > len(self._slots) * LOAD:
            self._slots = empty_slots(len(self) + more)
            kernels.place_used(self._keys.array, self._slots, int(self._meta[0]))

    @property
    def table(self) -> Table:
        """What kernels take; valid until the next `fit`."""
        return self._keys.array, self._slots, self._next.array, self._values.array, self._heads, self._low, self._meta

    def add(self, group: int, window: int, ends: Int64s, cells: Int64s, values: Int64s) -> None:
        """Add differences of one product's window."""
        self.fit(group + 1, len(ends))
        kernels.add(window, group * WINDOWS + window, ends, cells, np.ascontiguousarray(values), *self.table)

    def due(self, group: int, window: int, upto: int) -> bool:
        """Whether some end up to `upto` may have differences."""
        self._settle()
        chain = group * WINDOWS + window
        return chain < len(self._low) and int(self._low[chain]) <= upto

    def take(self, group: int, window: int, upto: int) -> tuple[Int64s, Int64s, Int64s]:
        """(ends, cells, values) of the ends up to `upto`, in no order; they are gone from here."""
        return self._collect(group, window, upto, True)

    def peek(self, group: int, window: int) -> tuple[Int64s, Int64s, Int64s]:
        """All that waits for one product's window, in no order."""
        return self._collect(group, window, _EVER, False)

    def _collect(self, group: int, window: int, upto: int, take: bool) -> tuple[Int64s, Int64s, Int64s]:
        self._settle()
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

    def _settle(self) -> None:
        """What waits is told to the ends: somebody asks for them."""
        if self.sums.entries:
            self.fit(0, self.sums.entries)
            self.sums.pour(self.table)
        while self.opening.count:
            self.fit(0, SPARE_ENTRIES)
            self.opening.pour(self.table)
