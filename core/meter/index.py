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
_SET_LOAD: Final = 0.5
_INDEX_LOAD: Final = 0.6
"""Tables have a power of two slots; the step grows with each try, so that no key needs many."""


def _home(keys: UInt64s, size: int) -> Int64s:
    """First slot of each key: the upper bits of a product."""
    return (((keys ^ (keys >> _HALF)) * _MIX) >> np.uint64(64 - size.bit_length() + 1)).astype(np.int64)


def _size(count: int, load: float) -> int:
    """Slots for so many keys."""
    return 1 << max(10, int(count / load).bit_length())


class KeySet:
    """A set of non-zero 64-bit keys."""

    def __init__(self, expected: int = 0) -> None:
        self._slots = np.zeros(_size(expected, _SET_LOAD), np.uint64)
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
        slot, keys, step = slot[left], keys[left], 1
        while len(left):
            slot = (slot + step) & (size - 1)
            step += 1
            at = self._slots[slot]
            hit = at == keys
            found[left[hit]] = True
            on = np.flatnonzero(~hit & (at != 0))
            left, slot, keys = left[on], slot[on], keys[on]
        return found

    def add(self, keys: UInt64s) -> None:
        """Add keys that are distinct and not in the set."""
        if self.count + len(keys) > len(self._slots) * _SET_LOAD:
            old = self.keys()
            self._slots = np.zeros(_size(self.count + len(keys), _SET_LOAD), np.uint64)
            self._place(old)
        self._place(keys)
        self.count += len(keys)

    def keys(self) -> UInt64s:
        """All keys, in no particular order."""
        keys: UInt64s = self._slots[self._slots != 0]
        return keys

    def _place(self, keys: UInt64s) -> None:
        size, step = len(self._slots), 1
        slot = _home(keys, size)
        while len(keys):
            free = self._slots[slot] == 0
            self._slots[slot[free]] = keys[free]  # of several that want one slot the last one gets it
            lost = self._slots[slot] != keys
            keys = keys[lost]
            slot = (slot[lost] + step) & (size - 1)
            step += 1


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
        slot, keys, step = slot[left], keys[left], 1
        while len(left):
            slot = (slot + step) & (size - 1)
            step += 1
            found = self._slots[slot].astype(np.int64)
            number[left] = found
            on = np.flatnonzero((found >= 0) & (self.keys[found] != keys))
            left, slot, keys = left[on], slot[on], keys[on]
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
        if self.count > len(self._slots) * _INDEX_LOAD:
            self._slots = np.full(_size(self.count, _INDEX_LOAD), -1, np.int32)
            self._place(0)
        else:
            self._place(first)
        return first

    def _place(self, first: int) -> None:
        size, step = len(self._slots), 1
        numbers = np.arange(first, self.count, dtype=np.int32)
        slot = _home(self.keys[first : self.count], size)
        while len(numbers):
            free = self._slots[slot] < 0
            self._slots[slot[free]] = numbers[free]
            lost = self._slots[slot] != numbers
            numbers = numbers[lost]
            slot = (slot[lost] + step) & (size - 1)
            step += 1


def grown(column: npt.NDArray[T], count: int, fill: int = 0) -> npt.NDArray[T]:
    """The column, or a longer copy that holds at least `count` values, new ones being `fill`."""
    if count <= len(column):
        return column
    bigger = np.zeros(int(count * 1.5) + 64, column.dtype)  # zeroed pages are not resident until they are touched
    bigger[: len(column)] = column
    if fill:
        bigger[len(column) :] = fill
    return bigger
