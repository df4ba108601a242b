"""Tally: plain sums of rows (events, requests, latencies) over the windows they lie in, and what late rows change."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from core.batch import Int64s
from core.kernels import tally as kernels
from core.meter.levels import LEVELS, PLAN
from core.meter.pending import Pending
from core.meter.spread import Spread

Contributions = dict[str, Spread]
"""By window: what late rows change at closed ends within grace."""
NAMES: Final = tuple(name for level in LEVELS for name, _ in level.windows)
_BLOCK: Final = 1_024
"""Late rows that are dealt together: room is made for all the ends that they might change."""


class Lateness(NamedTuple):
    """Rows whose finest pane was closed when they came, and those of them that no end within grace waits for."""

    late: int
    expired: int


def contributions(columns: int) -> Contributions:
    """Empty, for every window."""
    return {name: Spread(columns) for name in NAMES}


def tally(
    kinds: Int64s,
    full: int,
    weights: Int64s,
    times: Int64s,
    watermarks: Int64s,
    limits: Int64s,
    cell_group: Int64s,
    pending: Pending,
    late: Contributions,
) -> Lateness:
    """Add the rows' `weights` (rows, columns) to every window they lie in, for each of their cells `kinds` (kinds, rows; 0: none).

    The first `full` kinds count all columns, the others the first one. `watermarks` are those at which the rows came, `limits` these
    less grace. `cell_group`: product of each cell.
    """
    rows = pending.sums.add(kinds, full, weights, times, watermarks, cell_group)
    if not len(rows):
        return Lateness(0, 0)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        _behind(
            kinds[:, some], full, weights[some], times[some], watermarks[some], limits[some], cell_group, pending, late
        )
    times, limits = times[rows], limits[rows]
    coarsest = LEVELS[-1]
    expired = int((times // coarsest.step + coarsest.reach < limits // coarsest.step + 1).sum())
    return Lateness(len(rows) - expired, expired)


def _behind(
    kinds: Int64s,
    full: int,
    weights: Int64s,
    times: Int64s,
    watermarks: Int64s,
    limits: Int64s,
    cell_group: Int64s,
    pending: Pending,
    late: Contributions,
) -> None:
    """Count late rows in the ends behind their panes: at once where these are open, as a range where closed within grace."""
    n, windows = len(times), len(PLAN)
    pending.fit(0, 2 * windows * kinds.size)
    ranges, counts = np.empty((windows * len(kinds), n, 4), np.int64), np.empty((windows, len(kinds)), np.int64)
    kernels.behind(kinds, full, weights, times, watermarks, limits, cell_group, PLAN, ranges, counts, *pending.table)
    for at, count in zip(range(windows * len(kinds)), counts.ravel().tolist(), strict=True):
        if count:
            window, kind = divmod(at, len(kinds))
            cells, first, stop, row = ranges[at, :count].T
            columns = range(weights.shape[1] if kind < full else 1)
            late[NAMES[window]].between(cells, first, stop, [(c, weights[row, c]) for c in columns])
