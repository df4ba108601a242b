"""Keys to numbers, and sets of keys, a column at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, inlined, kernel
from core.kernels.hashing import home
from core.kernels.memory import NEAR, fetch

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]

_ONE = np.uint64(1)
_NONE = np.uint64(0)


@inlined
def number_of(key: np.uint64, keys: UInt64s, slots: UInt32s) -> tuple[Integer, np.uint64]:
    """(number of the key or -1, its slot or the free one where it would go)."""
    size = np.uint64(len(slots))
    slot = home(key, size)
    while True:
        found = slots[slot]
        if found == 0:
            return -1, slot
        if keys[np.int64(found) - 1] == key:
            return np.int64(found) - 1, slot
        slot += _ONE
        if slot == size:
            slot = _NONE


@inlined
def _ask(start: Integer, stop: Integer, wanted: UInt64s, keys: UInt64s, slots: UInt32s, out: Int64s) -> None:
    """What looking for these keys will read is on its way; `out` is written over."""
    size = np.uint64(len(slots))
    for i in range(start, stop):
        out[i] = np.int64(home(wanted[i], size))
        fetch(slots, out[i])
    for i in range(start, stop):
        number = np.int64(slots[out[i]])
        if number > 0:
            fetch(keys, number - 1)


@kernel("void(u8[:], u8[:], u4[::1], i8[::1])")
def find(wanted: UInt64s, keys: UInt64s, slots: UInt32s, out: Int64s) -> None:
    """Number of each key, -1 where it is not there."""
    for start in range(0, len(wanted), NEAR):
        stop = min(start + NEAR, len(wanted))
        _ask(start, stop, wanted, keys, slots, out)
        for i in range(start, stop):
            out[i] = number_of(wanted[i], keys, slots)[0]


@kernel("i8(u8[:], u8[::1], u4[::1], i8, i8[::1])")
def find_or_add(wanted: UInt64s, keys: UInt64s, slots: UInt32s, count: Integer, out: Int64s) -> Integer:
    """As `find`, new keys getting the next numbers. There must be room. The new count."""
    for start in range(0, len(wanted), NEAR):
        stop = min(start + NEAR, len(wanted))
        _ask(start, stop, wanted, keys, slots, out)
        for i in range(start, stop):
            number, slot = number_of(wanted[i], keys, slots)
            if number < 0:
                number = count
                keys[count] = wanted[i]
                count += 1
                slots[slot] = count
            out[i] = number
    return count


@kernel("void(u8[:], u4[::1], i8)")
def place(keys: UInt64s, slots: UInt32s, count: Integer) -> None:
    """Put the first `count` keys, all distinct, into an empty table; zeros stand for keys that are gone and are left out."""
    size = np.uint64(len(slots))
    asked = 0
    for number in range(count):
        if number == asked:
            asked = min(number + NEAR, count)
            for coming in range(number, asked):
                fetch(slots, np.int64(home(keys[coming], size)))
        if keys[number] == _NONE:
            continue
        slot = home(keys[number], size)
        while slots[slot] != 0:
            slot += _ONE
            if slot == size:
                slot = _NONE
        slots[slot] = number + 1


@kernel("i8(u8[:], u8[::1], u4[::1], i8)")
def append(fresh: UInt64s, keys: UInt64s, slots: UInt32s, count: Integer) -> Integer:
    """Give each key the next number, also where it had one: then only the new one is found. Zeros take a number and are not found.

    There must be room. How many slots more are taken.
    """
    taken = 0
    for i in range(len(fresh)):
        if fresh[i] == _NONE:
            keys[count + i] = _NONE
            continue
        number, slot = number_of(fresh[i], keys, slots)
        if number >= 0:
            keys[number] = _NONE
        else:
            taken += 1
        keys[count + i] = fresh[i]
        slots[slot] = count + i + 1
    return taken


@kernel("void(u8, i8, u8[::1], u4[::1])")
def renumber(key: np.uint64, to: Integer, keys: UInt64s, slots: UInt32s) -> None:
    """The key, which is there, is found as number `to` from now on."""
    number, slot = number_of(key, keys, slots)
    keys[number] = _NONE
    keys[to] = key
    slots[slot] = to + 1


@inlined
def held(key: np.uint64, table: UInt64s) -> tuple[bool, np.uint64]:
    """Whether the set has the (non-zero) key, and its slot or the free one where it would go."""
    size = np.uint64(len(table))
    slot = home(key, size)
    while True:
        found = table[slot]
        if found == key:
            return True, slot
        if found == 0:
            return False, slot
        slot += _ONE
        if slot == size:
            slot = _NONE


@kernel("void(u8[:], u8[::1])")
def put(keys: UInt64s, table: UInt64s) -> None:
    """Add distinct keys that the set does not hold."""
    for i in range(len(keys)):
        table[held(keys[i], table)[1]] = keys[i]


@kernel("i8(u8[:], i8, u8[::1], u8[::1], i8, b1[::1])")
def sift(keys: UInt64s, start: Integer, current: UInt64s, before: UInt64s, room: Integer, fresh: Bools) -> Integer:
    """From row `start` on: mark the rows whose key neither set holds and put it into `current`, until `room` is used up.

    The row that found no room, or the number of rows.
    """
    asked = start
    for i in range(start, len(keys)):
        if i == asked:
            asked = min(i + NEAR, len(keys))
            for coming in range(i, asked):
                fetch(current, np.int64(home(keys[coming], np.uint64(len(current)))))
                fetch(before, np.int64(home(keys[coming], np.uint64(len(before)))))
        there, slot = held(keys[i], current)
        if there or held(keys[i], before)[0]:
            continue
        if room == 0:
            return i
        current[slot] = keys[i]
        fresh[i] = True
        room -= 1
    return len(keys)
