"""Plain sums of rows by (cell, finest pane), and from there into every window the pane lies in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, kernel
from core.kernels.index import number_of
from core.kernels.pending import entry

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

_HALF = np.uint64(32)


@kernel("UniTuple(i8, 2)(i8[:,:], i8, i8[:,:], i8[::1], i8[::1], i8, u8[::1], u4[::1], i8[:,::1], i8, i8[::1])")
def gather(
    cells: Int64s,
    full: Integer,
    weights: Int64s,
    times: Int64s,
    watermarks: Int64s,
    step: Integer,
    keys: UInt64s,
    slots: UInt32s,
    sums: Int64s,
    count: Integer,
    late: Int64s,
) -> tuple[Integer, Integer]:
    """Add the rows that are on time to the `count` sums by cell and pane: `keys[i]` is cell << 32 | pane.

    `cells[k, i]` are the cells of row i, 0 being none. The first `full` kinds count all `weights[i]`, the others the first one
    only. A row is late when its pane's own end was closed as it came; `late` gets those. There must be room for a key more of
    each cell and row. How many keys, how many late rows.
    """
    kinds, n = cells.shape
    columns = weights.shape[1]
    behind = 0
    for i in range(n):
        pane = times[i] // step
        if (pane + 1) * step <= watermarks[i]:
            late[behind] = i
            behind += 1
            continue
        for kind in range(kinds):
            cell = cells[kind, i]
            if cell == 0:
                continue
            key = (np.uint64(cell) << _HALF) | np.uint64(pane)
            number, slot = number_of(key, keys, slots)
            if number < 0:
                number = count
                keys[number] = key
                for column in range(columns):
                    sums[number, column] = 0
                count += 1
                slots[slot] = count
            if kind < full:
                for column in range(columns):
                    sums[number, column] += weights[i, column]
            else:
                sums[number, 0] += weights[i, 0]
    return count, behind


@kernel(
    "void(u8[::1], i8[:,::1], i8, i8[::1], i8, i8[:,::1], u8[::1], u4[::1], i4[::1], i8[:,::1], i4[::1], i8[::1], i8[::1])"
)
def deal(
    cell_panes: UInt64s,
    sums: Int64s,
    count: Integer,
    cell_group: Int64s,
    step: Integer,
    plan: Int64s,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
) -> None:
    """Add the sums of `gather` to the windows: `plan` has (level, step, panes) of each. There must be room for 2 entries a window."""
    windows = len(plan)
    for i in range(count):
        cell = np.int64(cell_panes[i] >> _HALF)
        pane = np.int64(cell_panes[i] & np.uint64(0xFFFFFFFF))
        chain = cell_group[cell] * windows
        for window in range(windows):
            first = pane * step // plan[window, 1] + 1
            at = entry(window, cell, first, chain + window, keys, slots, following, values, heads, low, meta)
            for column in range(sums.shape[1]):
                values[at, column] += sums[i, column]
            last = first + plan[window, 2]
            at = entry(window, cell, last, chain + window, keys, slots, following, values, heads, low, meta)
            for column in range(sums.shape[1]):
                values[at, column] -= sums[i, column]


@kernel(
    "void(i8[:,:], i8, i8[:,::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[:,::1], i8[:,:,::1], i8[:,::1],"
    "u8[::1], u4[::1], i4[::1], i8[:,::1], i4[::1], i8[::1], i8[::1])"
)
def behind(
    cells: Int64s,
    full: Integer,
    weights: Int64s,
    times: Int64s,
    watermarks: Int64s,
    limits: Int64s,
    cell_group: Int64s,
    plan: Int64s,
    ranges: Int64s,
    counts: Int64s,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
) -> None:
    """Late rows: into the windows' ends that are open, as `deal` does; those that are closed and within grace are given back.

    `ranges[w, k, i]`, each of four numbers in a row, `counts[w, k]` of them: (cell, first end, end behind the last, row) of kind k.
    """
    kinds, n = cells.shape
    windows = len(plan)
    columns = weights.shape[1]
    for window in range(windows):
        step = plan[window, 1]
        for kind in range(kinds):
            count = 0
            taken = columns if kind < full else 1
            for i in range(n):
                cell = cells[kind, i]
                if cell == 0:
                    continue
                start = times[i] // step + 1
                stop = start + plan[window, 2]
                opened = watermarks[i] // step + 1
                first = max(start, opened)
                if first < stop:
                    chain = cell_group[cell] * windows + window
                    at = entry(window, cell, first, chain, keys, slots, following, values, heads, low, meta)
                    for column in range(taken):
                        values[at, column] += weights[i, column]
                    at = entry(window, cell, stop, chain, keys, slots, following, values, heads, low, meta)
                    for column in range(taken):
                        values[at, column] -= weights[i, column]
                first = max(start, limits[i] // step + 1)
                last = min(stop, opened)
                if first < last:
                    ranges[window * kinds + kind, count, 0] = cell
                    ranges[window * kinds + kind, count, 1] = first
                    ranges[window * kinds + kind, count, 2] = last
                    ranges[window * kinds + kind, count, 3] = i
                    count += 1
            counts[window, kind] = count


@kernel("void(i8[::1], i8[:], i8[::1], u4[::1])")
def latest(numbers: Int64s, times: Int64s, last: Int64s, events: UInt32s) -> None:
    """The latest time, and the number of rows, of each number."""
    for i in range(len(numbers)):
        at = numbers[i]
        if times[i] > last[at]:
            last[at] = times[i]
        events[at] += np.uint32(1)
