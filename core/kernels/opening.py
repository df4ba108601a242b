"""What sightings change at the ends of windows.

Who is seen in a pane that no other of his is near counts in all ends of all windows there, and most who do so in some moment do it in
the same few cells and panes: they wait in `opening`, a line of the cache each cell, (pane, users, organic users, product) by level,
and go to the ends together when the pane changes, or by `pour`. `waiting` names cell * 4 + level of all that wait.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, inlined, kernel
from core.kernels.pending import entry

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

_NONE = np.uint64(0)
_ONE = np.uint64(1)


@inlined
def _lay(
    window: Integer, cell: Integer, start: Integer, stop: Integer, chain: Integer, users: Integer, organic: Integer,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
) -> None:  # fmt: skip
    at = entry(window, cell, start, chain, keys, slots, following, values, heads, low, meta)
    values[at, 0] += users
    values[at, 2] += organic
    at = entry(window, cell, stop, chain, keys, slots, following, values, heads, low, meta)
    values[at, 0] -= users
    values[at, 2] -= organic


@inlined
def count(
    window: Integer, cell: Integer, chain: Integer, start: Integer, stop: Integer,
    opened: Integer, kept: Integer, users: Integer, organic: Integer,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
    ranges: Int64s, used: Integer,
) -> Integer:  # fmt: skip
    """Users and organic users more from the end `start` on, less from `stop` on: open ends at once, closed ones as a range."""
    first = max(start, opened)
    if first < stop:
        _lay(
            window, cell, first, stop, chain, users, organic, keys, slots, following, values, heads, low, meta
        )  # fmt: skip
    first, stop = max(start, kept), min(stop, opened)
    if first < stop:
        ranges[used, 0], ranges[used, 1], ranges[used, 2], ranges[used, 3] = window, cell, first, stop
        ranges[used, 4], ranges[used, 5] = users, organic
        used += 1
    return used


@inlined
def turn(
    level: Integer, levels: Int64s, plan: Int64s, cell: Integer, chain: Integer,
    bits_low: np.uint64, bits_high: np.uint64, last: Integer,
    opened: Integer, kept: Integer, turned: Integer,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
    ranges: Int64s, used: Integer,
) -> Integer:  # fmt: skip
    """The first use turned out to be of another origin: wherever the pair counts, one organic user more or less."""
    for window in range(levels[level, 3], levels[level, 4]):
        k = plan[window, 2]
        start, stop = 0, -1
        for depth in range(127, -1, -1):
            word = bits_low if depth < 64 else bits_high
            if (word >> np.uint64(depth & 63)) & _ONE == _NONE:
                continue
            pane = last - depth
            if stop >= 0 and pane + 1 <= stop:
                stop = pane + k + 1
                continue
            if stop >= 0:
                used = count(
                    window, cell, chain + window, start, stop, opened, kept, 0, turned,
                    keys, slots, following, values, heads, low, meta, ranges, used,
                )  # fmt: skip
            start, stop = pane + 1, pane + k + 1
        if stop >= 0:
            used = count(
                window, cell, chain + window, start, stop, opened, kept, 0, turned,
                keys, slots, following, values, heads, low, meta, ranges, used,
            )  # fmt: skip
    return used


@inlined
def pour_one(
    cell: Integer, level: Integer, levels: Int64s, plan: Int64s, opening: Int32s,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
) -> None:  # fmt: skip
    """What waits for a cell and level goes to the ends of its windows; nothing waits then."""
    pane, users, organic = np.int64(opening[cell, level, 0]), opening[cell, level, 1], opening[cell, level, 2]
    chain = np.int64(opening[cell, level, 3]) * len(plan)
    for window in range(levels[level, 3], levels[level, 4]):
        _lay(
            window, cell, pane + 1, pane + plan[window, 2] + 1, chain + window, users, organic,
            keys, slots, following, values, heads, low, meta,
        )  # fmt: skip
    opening[cell, level, 1] = opening[cell, level, 2] = 0


@inlined
def wait(
    cell: Integer, level: Integer, pane: Integer, group: Integer, organic: Integer, waiting: Int32s, waits: Integer,
    levels: Int64s, plan: Int64s, opening: Int32s,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
) -> Integer:  # fmt: skip
    """One user more in this pane, whom no other pane of his is near. How many wait now."""
    if opening[cell, level, 1] == 0:
        waiting[waits] = cell * 4 + level
        waits += 1
    elif opening[cell, level, 0] != pane:
        pour_one(cell, level, levels, plan, opening, keys, slots, following, values, heads, low, meta)
    opening[cell, level, 0], opening[cell, level, 3] = pane, group
    opening[cell, level, 1] += 1
    opening[cell, level, 2] += organic
    return waits


@kernel(
    "i8(i8, i4[:,:,::1], i4[::1], i8[:,::1], i8[:,::1], u8[::1], u4[::1], i4[::1], i8[:,::1], i4[::1], i8[::1], i8[::1])"
)
def pour(
    waits: Integer,
    opening: Int32s,
    waiting: Int32s,
    levels: Int64s,
    plan: Int64s,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
) -> Integer:
    """What the last `waits` of `waiting` hold goes to the ends of windows; how many are left, for which there is no room."""
    while waits > 0 and meta[2] + 2 * len(plan) <= len(values):
        waits -= 1
        cell, level = waiting[waits] // 4, waiting[waits] % 4
        pour_one(cell, level, levels, plan, opening, keys, slots, following, values, heads, low, meta)
    return waits
