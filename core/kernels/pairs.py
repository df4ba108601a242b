"""Pairs by their key: a row is found by its first word (`core.kernels.sight` says what the others are)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, inlined, kernel
from core.kernels.hashing import home
from core.kernels.memory import NEAR, fetch

UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

_NONE = np.uint64(0)
_ONE = np.uint64(1)


@inlined
def pair_of(key: np.uint64, rows: UInt64s, slots: UInt32s) -> tuple[Integer, np.uint64]:
    """(number of the pair or -1, its slot or the free one where it would go)."""
    size = np.uint64(len(slots))
    slot = home(key, size)
    while True:
        found = slots[slot]
        if found == 0:
            return -1, slot
        if rows[np.int64(found) - 1, 0] == key:
            return np.int64(found) - 1, slot
        slot += _ONE
        if slot == size:
            slot = _NONE


@kernel("void(u8[:,::1], u4[::1], i8)")
def place_pairs(rows: UInt64s, slots: UInt32s, count: Integer) -> None:
    """Put the first `count` pairs into an empty table."""
    size = np.uint64(len(slots))
    asked = 0
    for number in range(count):
        if number == asked:
            asked = min(number + NEAR, count)
            for coming in range(number, asked):
                fetch(slots, np.int64(home(rows[coming, 0], size)))
        slot = home(rows[number, 0], size)
        while slots[slot] != 0:
            slot += _ONE
            if slot == size:
                slot = _NONE
        slots[slot] = number + 1


@kernel("i8(u8, u8[:,::1], u4[::1])")
def find_pair(key: np.uint64, rows: UInt64s, slots: UInt32s) -> Integer:
    """Number of a pair, -1 where it is not there."""
    return pair_of(key, rows, slots)[0]
