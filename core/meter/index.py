"""Tables of 64-bit keys with open addressing, asked for a whole column at once."""

from __future__ import annotations

import math
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.kernels import index as kernels

UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

LOAD: Final = 0.7
"""A table is made larger before more of its slots are taken."""
_GROWTH: Final = 1.3
_SMALL: Final = 1 << 23
"""Keys up to which a table doubles: filling it again and again is what costs. Beyond, its size does."""
_LINE: Final = 64
_RESERVE: Final = 4
"""How much longer a column becomes: what is not written yet is no memory, only addresses; copying costs, and touching the copy."""


def slots_for(count: int) -> int:
    """Slots of a table that may grow to `count` keys, and half as many again."""
    return max(1 << 10, int(count * (2 if count < _SMALL else _GROWTH) / LOAD) + 1)


class KeySet:
    """A set of non-zero 64-bit keys."""

    def __init__(self, expected: int = 0) -> None:
        self.table: UInt64s = np.zeros(slots_for(expected), np.uint64)
        self.count = 0

    def room(self, more: int) -> None:
        """Make room for so many keys."""
        if self.count + more > len(self.table) * LOAD:
            old = self.keys()
            self.table = np.zeros(slots_for(self.count + more), np.uint64)
            kernels.put(old, self.table)

    def add(self, keys: UInt64s) -> None:
        """Add keys that are distinct and not in the set."""
        self.room(len(keys))
        kernels.put(keys, self.table)
        self.count += len(keys)

    def keys(self) -> UInt64s:
        """All keys, in no particular order."""
        keys: UInt64s = self.table[self.table != 0]
        return keys


class KeyIndex:
    """64-bit key → its number, 0 … n-1 in order of first sight. The keys themselves stand in `keys[:count]`."""

    def __init__(self, keys: UInt64s | None = None) -> None:
        self.count = 0 if keys is None else len(keys)
        self.keys: UInt64s = np.zeros(1024, np.uint64) if keys is None else keys
        self.slots: UInt32s = empty_slots(self.count)
        kernels.place(self.keys, self.slots, self.count)

    def room(self, more: int) -> None:
        """Make room for so many keys."""
        wanted = self.count + more
        self.keys = grown(self.keys, wanted)
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
    """A table for `count` keys. Filled, not `zeros`: numpy asks for huge pages only where it hands out memory as it is, and a
    table that is probed at random misses the translation of nearly every address without them.
    """
    slots = np.empty(slots_for(count), np.uint32)
    slots.fill(0)
    return slots


def stretched(column: npt.NDArray[T], count: int) -> npt.NDArray[T]:
    """As `grown`, but what is new holds anything."""
    if count <= len(column):
        return column
    bigger = aligned((count * _RESERVE + 64, *column.shape[1:]), column.dtype)
    bigger[: len(column)] = column
    return bigger


def aligned(shape: tuple[int, ...], dtype: np.dtype[T]) -> npt.NDArray[T]:
    """An array of anything whose first byte begins a cache line: rows of 64 bytes then lie in one line each, not in two."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def grown(column: npt.NDArray[T], count: int, fill: int = 0) -> npt.NDArray[T]:
    """The column, or a longer copy that holds at least `count` rows, new ones being `fill`."""
    if count <= len(column):
        return column
    bigger = np.zeros(
        (int(count * _GROWTH) + 64, *column.shape[1:]), column.dtype
    )  # zeroed pages cost nothing until touched
    bigger[: len(column)] = column
    if fill:
        bigger[len(column) :] = fill
    return bigger
