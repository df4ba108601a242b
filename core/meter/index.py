"""Tables of 64-bit keys with open addressing, asked for a whole column at once."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.kernels import index as kernels
from core.meter.memory import Column, zeroed

UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

LOAD: Final = 0.7
"""A table is made larger before more of its slots are taken."""
_GROWTH: Final = 1.3
_SMALL: Final = 1 << 23
"""Keys up to which a table doubles: filling it again and again is what costs. Beyond, its size does."""


def slots_for(count: int) -> int:
    """Slots of a table that may grow to `count` keys, and half as many again."""
    return max(1 << 10, int(count * (2 if count < _SMALL else _GROWTH) / LOAD) + 1)


class KeySet:
    """A set of non-zero 64-bit keys."""

    def __init__(self, expected: int = 0) -> None:
        self.table: UInt64s = zeroed((slots_for(expected),), np.uint64)
        self.count = 0

    def room(self, more: int) -> None:
        """Make room for so many keys."""
        if self.count + more > len(self.table) * LOAD:
            old = self.keys()
            self.table = zeroed((slots_for(self.count + more),), np.uint64)
            kernels.put(old, self.table)

    def add(self, keys: UInt64s) -> None:
        """Add keys that are distinct and not in the set."""
        self.room(len(keys))
        kernels.put(keys, self.table)
        self.count += len(keys)

    def emptied(self, expected: int) -> KeySet:
        """An empty set for so many keys, in this one's memory where that fits: new memory costs more than zeros."""
        if not expected <= len(self.table) * LOAD <= 4 * max(expected, slots_for(0)):
            return KeySet(expected)
        self.table.fill(0)
        self.count = 0
        return self

    def keys(self) -> UInt64s:
        """All keys, in no particular order."""
        keys: UInt64s = self.table[self.table != 0]
        return keys


class KeyIndex:
    """64-bit key → its number, 0 … n-1 in order of first sight. The keys themselves stand in `keys[:count]`."""

    def __init__(self, keys: UInt64s | None = None) -> None:
        self.count = 0 if keys is None else len(keys)
        self._keys = Column(np.zeros(1024, np.uint64) if keys is None else keys)
        self.slots: UInt32s = empty_slots(self.count)
        kernels.place(self.keys, self.slots, self.count)

    @property
    def keys(self) -> UInt64s:
        """Valid until the next `room`."""
        return self._keys.array

    def room(self, more: int) -> None:
        """Make room for so many keys."""
        wanted = self.count + more
        self._keys.fit(wanted)
        if wanted > len(self.slots) * LOAD:
            self.slots = empty_slots(wanted)
            kernels.place(self.keys, self.slots, self.count)

    def get(self, keys: UInt64s) -> Int64s:
        """Number of each key, -1 where it is not there."""
        numbers = np.empty(len(keys), np.int64)
        kernels.find(keys, self.keys, self.slots, numbers)
        return numbers

    def get_or_add(self, keys: UInt64s) -> Int64s:
        """Number of each key; new keys get the next numbers."""
        self.room(len(keys))
        numbers = np.empty(len(keys), np.int64)
        self.count = kernels.find_or_add(keys, self.keys, self.slots, self.count, numbers)
        return numbers

    def nbytes(self) -> int:
        """Memory taken."""
        return self.slots.nbytes + self.count * 8


def empty_slots(count: int) -> UInt32s:
    """A table for `count` keys."""
    return zeroed((slots_for(count),), np.uint32)


def grown(column: npt.NDArray[T], count: int, fill: int = 0) -> npt.NDArray[T]:
    """The column, or a longer copy that holds at least `count` rows, new ones being `fill`."""
    if count <= len(column):
        return column
    bigger = zeroed((int(count * _GROWTH) + 64, *column.shape[1:]), column.dtype)
    bigger[: len(column)] = column
    if fill:
        bigger[len(column) :] = fill
    return bigger
