"""The few pairs that columns cannot fold: the same rules as `levels` and `pairs`, one use at a time, with sets of panes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from core.meter.levels import LEVELS
from core.meter.pending import Pending
from core.meter.tally import Contributions

UNUSED: Final = (1 << 43) - 1


class Use(NamedTuple):
    """One use, as it arrived."""

    packed: int
    """`time * 2 + organic`."""
    reach: Sequence[tuple[int, int, int]]
    """By level: its pane, the first open end, the first end within grace."""


Entry = tuple[int, int, int, int, int]
"""cell, first end, end behind the last, users, organic."""


class Scalar:
    """Folds pairs one by one and gathers what they contribute."""

    def __init__(self) -> None:
        self._open: defaultdict[str, list[Entry]] = defaultdict(list)
        self._late: defaultdict[str, list[Entry]] = defaultdict(list)

    def fold(self, cell: int, first: int, panes: list[set[int]], uses: Sequence[Use]) -> int:
        """Take the uses of one pair; `panes` (by level) are updated in place. The new first use."""
        for use in uses:
            earliest = min(first, use.packed)
            turned = (earliest & 1) - (first & 1) if first != UNUSED else 0
            first = earliest
            for level, known, (pane, opened, kept) in zip(LEVELS, panes, use.reach, strict=True):
                known.difference_update([p for p in known if p + level.reach < kept])
                if turned:
                    for name, k in level.windows:
                        for start, stop in _covered(known, k):
                            self._put(name, cell, start, stop, opened, kept, 0, turned)
                if pane + level.reach < kept or pane in known:
                    continue
                before = max((p for p in known if p < pane), default=None)
                after = min((p for p in known if p > pane), default=None)
                known.add(pane)
                for name, k in level.windows:
                    start = pane + 1 if before is None else max(pane + 1, before + k + 1)
                    stop = pane + k + 1 if after is None else min(pane + k, after) + 1
                    self._put(name, cell, start, stop, opened, kept, 1, first & 1)
        return first

    def pour(self, group: int, pending: Pending, late: Contributions) -> None:
        """Hand over what was gathered for cells of one product: of open ends, and of closed ends within grace."""
        for number, name in enumerate(late):
            for gathered, closed in ((self._open[name], False), (self._late[name], True)):
                if not gathered:
                    continue
                cells, starts, stops, users, organic = np.ascontiguousarray(np.array(gathered, np.int64).T)
                if closed:
                    late[name].between(cells, starts, stops, [(0, users), (2, organic)])
                    continue
                values = np.stack([users, np.zeros_like(users), organic], axis=1)
                pending.add(group, number, starts, cells, values)
                pending.add(group, number, stops, cells, -values)

    def _put(
        self, name: str, cell: int, start: int, stop: int, opened: int, kept: int, users: int, organic: int
    ) -> None:
        if max(start, opened) < stop:
            self._open[name].append((cell, max(start, opened), stop, users, organic))
        if max(start, kept) < min(stop, opened):
            self._late[name].append((cell, max(start, kept), min(stop, opened), users, organic))


def _covered(panes: set[int], k: int) -> Iterator[tuple[int, int]]:
    """The ends in which a use in any of the panes counts, as ranges [start, stop)."""
    start = stop = None
    for pane in sorted(panes):
        if stop is None or start is None:
            start, stop = pane + 1, pane + k + 1
        elif pane + 1 <= stop:
            stop = pane + k + 1
        else:
            yield start, stop
            start, stop = pane + 1, pane + k + 1
    if start is not None and stop is not None:
        yield start, stop
