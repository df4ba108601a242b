"""Windows' later versions: figures of closed ends that late rows have changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, kernel

Int64s = npt.NDArray[np.int64]


@kernel("i8(i8[:], i8[:,:], i8[:], i8[:], i8[:,:], i8, i8[:,:], i8[::1], i8[::1], i8[:,::1], i8[:,::1])")
def involved(
    late_cells: Int64s,
    late_base: Int64s,
    zero_ends: Int64s,
    zero_cells: Int64s,
    zero_values: Int64s,
    final: Integer,
    running: Int64s,
    place: Int64s,
    cells: Int64s,
    figures: Int64s,
    more: Int64s,
) -> Integer:
    """Which cells late rows have changed, and what their figures were at the end that last left grace, `final`.

    `zero_…`: differences of the closed ends behind it, which `running` has in it. `place`: zeros, as many as cells; it gets a cell's
    place among those involved, or -1. By place: `cells`, `figures` of version 0, and `more`, what `late_base` adds. How many.
    """
    columns = running.shape[1]
    for i in range(len(late_cells)):
        place[late_cells[i]] = 1
    count = 0
    for cell in range(len(place)):
        based = cell < len(late_base)
        there = place[cell] == 1
        if based and not there:
            for column in range(columns):
                if late_base[cell, column] != 0:
                    there = True
        if not there:
            place[cell] = -1
            continue
        place[cell] = count
        cells[count] = cell
        for column in range(columns):
            figures[count, column] = running[cell, column] if cell < len(running) else 0
            more[count, column] = late_base[cell, column] if based else 0
        count += 1
    for i in range(len(zero_ends)):
        if zero_ends[i] > final and zero_cells[i] < len(place) and place[zero_cells[i]] >= 0:
            for column in range(columns):
                figures[place[zero_cells[i]], column] -= zero_values[i, column]
    return count


@kernel(
    "i8(i8[:], i8[:], i8[:,:], i8[:], i8[:], i8[:,:], i8[::1], i8[::1], i8, i8, i8, i8, i8, i8[:,::1], i8[:,::1],"
    "i8[:,:,:,::1], i8[::1], i8[::1], i8[:,::1])"
)
def later(
    late_ends: Int64s,
    late_cells: Int64s,
    late_values: Int64s,
    zero_ends: Int64s,
    zero_cells: Int64s,
    zero_values: Int64s,
    place: Int64s,
    cells: Int64s,
    involved: Integer,
    start: Integer,
    stop: Integer,
    low: Integer,
    revised: Integer,
    figures: Int64s,
    more: Int64s,
    changes: Int64s,
    out_ends: Int64s,
    out_cells: Int64s,
    out: Int64s,
) -> Integer:
    """The ends `start` … `stop - 1`, with `figures` and `more` as they were before and then as they are behind them.

    Out go those from `low` on, of cells that late rows changed, or might have before where `revised` is not behind them; by end, then
    cell. `changes`: zeros (2, ends, cells, columns). How many.
    """
    columns = figures.shape[1]
    for i in range(len(zero_ends)):
        if start <= zero_ends[i] < stop and zero_cells[i] < len(place) and place[zero_cells[i]] >= 0:
            for column in range(columns):
                changes[0, zero_ends[i] - start, place[zero_cells[i]], column] += zero_values[i, column]
    for i in range(len(late_ends)):
        if start <= late_ends[i] < stop:
            for column in range(columns):
                changes[1, late_ends[i] - start, place[late_cells[i]], column] += late_values[i, column]
    count = 0
    for end in range(start, stop):
        for cell in range(involved):
            changed = end <= revised
            for column in range(columns):
                figures[cell, column] += changes[0, end - start, cell, column]
                more[cell, column] += changes[1, end - start, cell, column]
                if more[cell, column] != 0:
                    changed = True
            if changed and end >= low:
                out_ends[count] = end
                out_cells[count] = cells[cell]
                for column in range(columns):
                    out[count, column] = figures[cell, column] + more[cell, column]
                count += 1
    return count
