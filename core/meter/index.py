"""Open-addressing tables of 64-bit keys, probed for a whole column at once."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from core.batch import Int64s

UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)
_MAX_LOAD: Final = 0.7
_GROWTH: Final = 1.6


def _home(keys: UInt64s, size: int) -> Int64s:
    """First slot of each key: the high half of a product, scaled to the table's size."""
    high = ((keys ^ (keys >> _HALF)) * _MIX) >> _HALF
    return ((high * np.uint64(size)) >> _HALF).astype(np.int64)


class KeySet:
    """A set of non-zero 64-bit keys."""

    def __init__(self, capacity: int = 1024) -> None:
        self._slots = np.zeros(capacity, np.uint64)
        self.count = 0

    def contains(self, keys: UInt64s) -> Bools:
        """Which of the keys are in the set."""
        found = np.zeros(len(keys), np.bool_)
        if self.count == 0:
            return found
        size = len(self._slots)
        slot = _home(keys, size)
        at = self._slots[slot]
        np.equal(at, keys, out=found)
        left = np.flatnonzero(~found & (at != 0))
        while len(left):
            slot[left] = (slot[left] + 1) % size
            at = self._slots[slot[left]]
            hit = at == keys[left]
            found[left[hit]] = True
            left = left[~hit & (at != 0)]
        return found

    def add(self, keys: UInt64s) -> None:
        """Add keys that are distinct and not in the set."""
        need = (self.count + len(keys)) / _MAX_LOAD
        if need > len(self._slots):
            old = self.keys()
            self._slots = np.zeros(int(max(need, len(self._slots)) * _GROWTH) + 8, np.uint64)
            self._place(old)
        self._place(keys)
        self.count += len(keys)

    def keys(self) -> UInt64s:
        """All keys, in no particular order."""
        keys: UInt64s = self._slots[self._slots != 0]
        return keys

    def _place(self, keys: UInt64s) -> None:
        size = len(self._slots)
        slot = _home(keys, size)
        while len(keys):
            free = self._slots[slot] == 0
            self._slots[slot[free]] = keys[free]  # of several that want one slot the last one gets it
            lost = self._slots[slot] != keys
            keys = keys[lost]
            slot = (slot[lost] + 1) % size


class KeyIndex:
    """64-bit key → its number, 0 … n-1 in order of insertion. The keys themselves stand in `keys[:count]`."""

    def __init__(self, keys: UInt64s | None = None) -> None:
        self.count = 0
        self.keys = np.zeros(1024, np.uint64)
        self._slots = np.full(2048, -1, np.int32)
        if keys is not None and len(keys):
            self._append(keys)

    def get(self, keys: UInt64s) -> Int64s:
        """Number of each key, -1 where it is not there."""
        size = len(self._slots)
        slot = _home(keys, size)
        number = self._slots[slot].astype(np.int64)
        left = np.flatnonzero((number >= 0) & (self.keys[number] != keys))
        while len(left):
            slot[left] = (slot[left] + 1) % size
            found = self._slots[slot[left]].astype(np.int64)
            number[left] = found
            left = left[(found >= 0) & (self.keys[found] != keys[left])]
        return number

    def get_or_add(self, keys: UInt64s) -> Int64s:
        """Number of each key; new keys get the next numbers, smaller keys first."""
        number = self.get(keys)
        missing = np.flatnonzero(number < 0)
        if len(missing):
            new, inverse = np.unique(keys[missing], return_inverse=True)
            number[missing] = self._append(new) + inverse
        return number

    def nbytes(self) -> int:
        """Memory taken."""
        return self._slots.nbytes + self.count * 8

    def _append(self, new: UInt64s) -> int:
        first, self.count = self.count, self.count + len(new)
        self.keys = grown(self.keys, self.count)
        self.keys[first : self.count] = new
        if self.count / _MAX_LOAD > len(self._slots):
            self._slots = np.full(int(self.count / _MAX_LOAD * _GROWTH) + 8, -1, np.int32)
            self._place(0)
        else:
            self._place(first)
        return first

    def _place(self, first: int) -> None:
        size = len(self._slots)
        numbers = np.arange(first, self.count, dtype=np.int32)
        slot = _home(self.keys[first : self.count], size)
        while len(numbers):
            free = self._slots[slot] < 0
            self._slots[slot[free]] = numbers[free]
            lost = self._slots[slot] != numbers
            numbers = numbers[lost]
            slot = (slot[lost] + 1) % size


def grown(column: npt.NDArray[T], count: int, fill: int = 0) -> npt.NDArray[T]:
    """The column, or a longer copy that holds at least `count` values, new ones being `fill`."""
    if count <= len(column):
        return column
    bigger = np.zeros(int(count * 1.5) + 64, column.dtype)  # zeroed pages are not resident until they are touched
    bigger[: len(column)] = column
    if fill:
        bigger[len(column) :] = fill
    return bigger
