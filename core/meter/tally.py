"""Tally: where rows count, window by window, and plain sums over them (events, requests, latencies)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.batch import Int64s
from core.meter.levels import LEVELS
from core.meter.spread import Spread


class Spreads(NamedTuple):
    """A batch's contributions to one window: to open ends (version 0), and to closed ends within grace."""

    open: Spread
    late: Spread


Contributions = dict[str, Spreads]


def contributions(columns: int) -> Contributions:
    """Empty, for every window."""
    return {name: Spreads(Spread(columns), Spread(columns)) for level in LEVELS for name, _ in level.windows}


class Reach(NamedTuple):
    """Of each row at one level: its pane, the first end that was open when it came, and the first within grace."""

    pane: Int64s
    open: Int64s
    kept: Int64s

    def of(self, rows: Int64s) -> Reach:
        """Some of the rows."""
        return Reach(self.pane[rows], self.open[rows], self.kept[rows])


def reaches(times: Int64s, watermarks: Int64s, grace: Int64s) -> list[Reach]:
    """For each level; `watermarks` are those at which the rows arrived."""
    limit = watermarks - grace
    return [Reach(times // at.step, watermarks // at.step + 1, limit // at.step + 1) for at in LEVELS]


def between(
    spreads: Spreads,
    columns: Sequence[tuple[int, Int64s | None]],
    cells: Int64s,
    reach: Reach,
    start: Int64s,
    stop: Int64s,
) -> None:
    """Count `columns` (number, values) of the cells in the ends `start` … `stop - 1`, each where it belongs."""
    first = np.maximum(start, reach.open)
    _count(spreads.open, columns, cells, first, stop)
    if (start < reach.open).any():
        _count(spreads.late, columns, cells, np.maximum(start, reach.kept), np.minimum(stop, reach.open))


def _count(
    spread: Spread, columns: Sequence[tuple[int, Int64s | None]], cells: Int64s, start: Int64s, stop: Int64s
) -> None:
    counts = start < stop
    if counts.all():
        spread.between(cells, start, stop, columns)
    elif counts.any():
        rows = np.flatnonzero(counts)
        spread.between(cells[rows], start[rows], stop[rows], _picked(columns, rows))


def tally(
    out: Contributions, columns: Sequence[tuple[int, Int64s | None]], cells: Int64s, by_level: Sequence[Reach]
) -> None:
    """Add the rows' values to every window they lie in."""
    finest = by_level[0]
    on_time = finest.pane + 1 >= finest.open  # then it is on time at the coarser levels too
    if on_time.all():
        _tally_on_time(out, columns, cells, finest.pane)
        return
    late = np.flatnonzero(~on_time)
    rows = np.flatnonzero(on_time)
    if len(rows):
        _tally_on_time(out, _picked(columns, rows), cells[rows], finest.pane[rows])
    some = _picked(columns, late)
    cells = cells[late]
    for level, all_rows in zip(LEVELS, by_level, strict=True):
        reach = all_rows.of(late)
        for name, k in level.windows:
            between(out[name], some, cells, reach, reach.pane + 1, reach.pane + k + 1)


def _tally_on_time(
    out: Contributions, columns: Sequence[tuple[int, Int64s | None]], cells: Int64s, panes: Int64s
) -> None:
    """Rows that lie in open ends only: summed per (cell, finest pane) first, then once a window."""
    low = int(panes.min())
    width = int(cells.max()) + 1
    key = (panes - low) * width + cells
    size = (int(panes.max()) - low + 1) * width
    if size > max(1 << 16, 2 * len(key)):
        places, key = np.unique(key, return_inverse=True)
    else:
        places = np.flatnonzero(np.bincount(key, minlength=size))
        dense = np.zeros(size, np.int64)
        dense[places] = np.arange(len(places))
        key = dense[key]
    panes, cells = places // width + low, places % width
    sums: list[tuple[int, Int64s | None]] = [(c, np.bincount(key, v, len(places)).astype(np.int64)) for c, v in columns]
    for level in LEVELS:
        ends = panes * LEVELS[0].step // level.step + 1
        for name, k in level.windows:
            out[name].open.between(cells, ends, ends + k, sums)


def _picked(columns: Sequence[tuple[int, Int64s | None]], rows: Int64s) -> list[tuple[int, Int64s | None]]:
    return [(column, None if values is None else values[rows]) for column, values in columns]
