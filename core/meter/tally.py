"""Tally: plain sums of rows (events, requests, latencies) over the windows they lie in, and what late rows change."""

from __future__ import annotations

from collections.abc import Sequence
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
_FINEST: Final = LEVELS[0].step


class Lateness(NamedTuple):
    """Rows whose finest pane was closed when they came, and those of them that no end within grace waits for."""

    late: int
    expired: int


def contributions(columns: int) -> Contributions:
    """Empty, for every window."""
    return {name: Spread(columns) for name in NAMES}


class Reach(NamedTuple):
    """Of each row at one level: its pane, the first end that was open when it came, and the first within grace."""

    pane: Int64s
    open: Int64s
    kept: Int64s


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
    n = len(times)
    keys, sums = np.empty(kinds.size, np.uint64), np.empty((kinds.size, weights.shape[1]), np.int64)
    slots, behind = np.zeros(2 * kinds.size + 1, np.uint32), np.empty(n, np.int64)
    count, late_rows = kernels.gather(kinds, full, weights, times, watermarks, _FINEST, keys, slots, sums, behind)
    pending.fit(0, 2 * len(PLAN) * count)
    kernels.deal(keys, sums, count, cell_group, _FINEST, PLAN, *pending.table)
    if not late_rows:
        return Lateness(0, 0)
    rows = behind[:late_rows]
    times, watermarks, limits = times[rows], watermarks[rows], limits[rows]
    for kind, cells in enumerate(kinds[:, rows]):
        some = np.flatnonzero(cells)
        columns = range(weights.shape[1]) if kind < full else range(1)
        values = [(c, weights[rows[some], c]) for c in columns]
        for number, (_, step, k) in enumerate(PLAN.tolist()):
            pane = times[some] // step
            reach = Reach(pane, watermarks[some] // step + 1, limits[some] // step + 1)
            _between(late[NAMES[number]], pending, number, cell_group, values, cells[some], reach, k)
    coarsest = LEVELS[-1]
    expired = int((times // coarsest.step + coarsest.reach < limits // coarsest.step + 1).sum())
    return Lateness(late_rows - expired, expired)


def _between(
    late: Spread,
    pending: Pending,
    window: int,
    cell_group: Int64s,
    values: Sequence[tuple[int, Int64s]],
    cells: Int64s,
    reach: Reach,
    k: int,
) -> None:
    """Count late rows in the `k` ends behind their panes: at once where these are open, as a range where closed within grace."""
    start, stop = reach.pane + 1, reach.pane + k + 1
    first = np.maximum(start, reach.open)
    spread(pending, window, cell_group, cells, first, stop, values)
    first, stop = np.maximum(start, reach.kept), np.minimum(stop, reach.open)
    counts = np.flatnonzero(first < stop)
    if len(counts):
        late.between(cells[counts], first[counts], stop[counts], [(c, v[counts]) for c, v in values])


def spread(
    pending: Pending,
    window: int,
    cell_group: Int64s,
    cells: Int64s,
    start: Int64s,
    stop: Int64s,
    values: Sequence[tuple[int, Int64s]],
) -> None:
    """Each column's values more from `start[i]` on, as much less from `stop[i]` on, where there is an end between them."""
    rows = np.flatnonzero(start < stop)
    if not len(rows):
        return
    table = np.zeros((len(rows), pending.columns), np.int64)
    for column, of in values:
        table[:, column] = of[rows]
    groups = cell_group[cells[rows]]
    for group in np.unique(groups).tolist():
        mine = groups == group
        at = rows[mine]
        pending.add(group, window, start[at], cells[at], table[mine])
        pending.add(group, window, stop[at], cells[at], -table[mine])
