"""Differences of window ends to come: a table of (window, cell, end) → values, and through it a chain for each product and window.

`meta` is (entries ever used, first free entry or -1, entries in use). Entries that are taken go to the free ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, inlined, kernel
from core.kernels.hashing import home
from core.kernels.index import number_of

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

_ONE = np.uint64(1)
_NONE = np.uint64(0)
_END = np.uint64(0xFFFFFFFF)
_CELL = np.uint64((1 << 29) - 1)
_HALF = np.uint64(32)
_WINDOW = np.uint64(61)
_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def entry(
    window: Integer,
    cell: Integer,
    end: Integer,
    chain: Integer,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
) -> Integer:
    """The entry of (window, cell, end); a new one is chained. There must be room."""
    key = (np.uint64(window) << _WINDOW) | (np.uint64(cell) << _HALF) | np.uint64(end)
    number, slot = number_of(key, keys, slots)
    if number >= 0:
        return number
    if meta[1] >= 0:
        number = meta[1]
        meta[1] = following[number]
    else:
        number = meta[0]
        meta[0] += 1
    meta[2] += 1
    keys[number] = key
    slots[slot] = number + 1
    for column in range(values.shape[1]):
        values[number, column] = 0
    following[number] = heads[chain]
    heads[chain] = number
    low[chain] = min(low[chain], end)
    return number


@inlined
def _forget(key: Integer, keys: UInt64s, slots: UInt32s) -> None:
    """Take a key out of the table; those behind it that would not be found any more move up."""
    size = np.uint64(len(slots))
    hole = number_of(key, keys, slots)[1]
    at = hole
    while True:
        at += _ONE
        if at == size:
            at = _NONE
        if slots[at] == 0:
            break
        first = home(keys[np.int64(slots[at]) - 1], size)
        between = hole < first <= at if hole <= at else (hole < first or first <= at)
        if not between:
            slots[hole] = slots[at]
            hole = at
    slots[hole] = 0


@kernel("i8(i8, i8, i8[::1], i8[::1], i8[:,::1], u8[::1], u4[::1], i4[::1], i8[:,::1], i4[::1], i8[::1], i8[::1], b1)")
def collect(
    chain: Integer,
    upto: Integer,
    ends: Int64s,
    cells: Int64s,
    out: Int64s,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
    take: bool,
) -> Integer:
    """Copy the chain's entries with ends ≤ `upto` out; with `take` they are gone. How many: with no room in `out`, only that."""
    count = 0
    number = heads[chain]
    while number >= 0:
        if np.int64(keys[number] & _END) <= upto:
            count += 1
        number = following[number]
    if count > len(ends) or count == 0:
        return count
    count = 0
    least = np.int64(1) << 62
    before: Integer = np.int32(-1)
    number = heads[chain]
    while number >= 0:
        after = following[number]
        end = np.int64(keys[number] & _END)
        if end <= upto:
            ends[count] = end
            cells[count] = np.int64((keys[number] >> _HALF) & _CELL)
            for column in range(values.shape[1]):
                out[count, column] = values[number, column]
            count += 1
            if take:
                _forget(keys[number], keys, slots)
                keys[number] = _FREE
                if before < 0:
                    heads[chain] = after
                else:
                    following[before] = after
                following[number] = meta[1]
                meta[1] = number
                meta[2] -= 1
                number = after
                continue
        else:
            least = min(least, end)
        before = number
        number = after
    if take:
        low[chain] = least
    return count


@kernel("void(i8, i8, i8[::1], i8[::1], i8[:,::1], u8[::1], u4[::1], i4[::1], i8[:,::1], i4[::1], i8[::1], i8[::1])")
def add(
    window: Integer,
    chain: Integer,
    ends: Int64s,
    cells: Int64s,
    more: Int64s,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
) -> None:
    """Add `more` to the entries of the ends and cells. There must be room for all of them."""
    for i in range(len(ends)):
        number = entry(window, cells[i], ends[i], chain, keys, slots, following, values, heads, low, meta)
        for column in range(values.shape[1]):
            values[number, column] += more[i, column]


@kernel("void(u8[::1], u4[::1], i8)")
def place_used(keys: UInt64s, slots: UInt32s, count: Integer) -> None:
    """Put those of the first `count` entries that are in use into an empty table."""
    size = np.uint64(len(slots))
    for number in range(count):
        if keys[number] == _FREE:
            continue
        slot = home(keys[number], size)
        while slots[slot] != 0:
            slot += _ONE
            if slot == size:
                slot = _NONE
        slots[slot] = number + 1
