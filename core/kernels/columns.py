"""Pairs at rest: out of their rows into columns, and back. `core.kernels.sight` says what a row and a hot slot hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, kernel
from core.kernels.memory import NEAR, fetch
from core.kernels.sight import DAY, DAY_BITS, FIRST, HALF, LOW, ONE

UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]
UInt16s = npt.NDArray[np.uint16]


@kernel("void(u8[:,::1], u4[::1], u8[:,::1], u4[::1], u4[::1], u8[::1], u2[::1], u4[::1])")
def in_order(
    rows: UInt64s,
    pair_slots: UInt32s,
    hot: UInt64s,
    cells: UInt32s,
    users: UInt32s,
    firsts: UInt64s,
    newest: UInt16s,
    days: UInt32s,
) -> None:
    """Copy the pairs out as columns, in the order of their slots; `hot`, a copy of the hot slots, gets their new numbers.

    A table of any size has its keys in about this order, so it is built again from front to back instead of at random.
    """
    at, asked = 0, 0
    for slot in range(len(pair_slots)):
        if slot == asked:
            asked = min(slot + NEAR, len(pair_slots))
            for coming in range(slot, asked):
                number = np.int64(pair_slots[coming]) - 1
                if number >= 0:
                    fetch(rows, 3 * number)
            for coming in range(slot, asked):
                number = np.int64(pair_slots[coming]) - 1
                if number >= 0:
                    fetch(hot, 8 * np.int64(rows[number, 2] & LOW) + 6)
        number = np.int64(pair_slots[slot]) - 1
        if number < 0:
            continue
        key, about, tail = rows[number, 0], rows[number, 1], rows[number, 2]
        cells[at], users[at] = key >> HALF, key & LOW
        firsts[at] = (about >> DAY_BITS) & FIRST
        newest[at] = about & DAY
        days[at] = tail >> HALF
        spot = np.int64(tail & LOW)
        if spot:
            hot[spot, 6] = np.uint64(at)
        at += 1


@kernel("void(u4[::1], u4[::1], u8[::1], u2[::1], u4[::1], u8[::1], u8[:,::1], i8)")
def from_columns(
    cells: UInt32s,
    users: UInt32s,
    times: UInt64s,
    newest: UInt16s,
    days: UInt32s,
    least: UInt64s,
    rows: UInt64s,
    start: Integer,
) -> None:
    """Put pairs into the rows from `start` on: the columns plus the `least` of each; `newest` is day * 2 + organic."""
    for i in range(len(cells)):
        dated = np.uint64(newest[i]) + least[3]
        first = ((times[i] + least[2]) << ONE) | (dated & ONE)
        rows[start + i, 0] = ((np.uint64(cells[i]) + least[0]) << HALF) | (np.uint64(users[i]) + least[1])
        rows[start + i, 1] = (first << DAY_BITS) | (dated >> ONE)
        rows[start + i, 2] = (np.uint64(days[i]) + least[4]) << HALF


@kernel("void(u8[:,::1], u8[:,::1])")
def warm(rows: UInt64s, hot: UInt64s) -> None:
    """Tell the pairs of their hot slots; slot 0 is nobody's."""
    for slot in range(1, len(hot)):
        rows[np.int64(hot[slot, 6]), 2] |= np.uint64(slot)
