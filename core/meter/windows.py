"""Windows: hopping windows as running figures plus differences at their ends. Closing an end applies its differences.

Version 0 of an end is what was on time for it; what comes late is kept apart, as differences over ends already closed, and is
laid on top of version 0 when an end leaves grace (or earlier, when somebody asks by `revise`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from core.batch import Int64s
from core.kernels import windows as kernels

_BLOCK: Final = 64
"""Ends that are corrected together."""


class Closed(NamedTuple):
    """Figures of one window end, ready to be published."""

    window: str
    end: int
    """Milliseconds."""
    version: int
    cells: Int64s
    values: Int64s
    """(cells, columns)."""


class Differences(NamedTuple):
    """At `ends[i]` the figures of `cells[i]` change by `values[i]`."""

    ends: Int64s
    cells: Int64s
    values: Int64s


class Window:
    """One window of one product."""

    def __init__(self, name: str, step: int, columns: int, watermark: int, grace: int) -> None:
        self.name = name
        self.step = step
        self.columns = columns
        self.closed = watermark // step
        """Index of the newest closed end (an end is `index * step`)."""
        self.final = (watermark - grace) // step
        """Index of the newest end that has left grace."""
        self.running = np.zeros((0, columns), np.int64)
        """Version 0 of the newest closed end."""
        self.history: list[Differences] = []
        """Differences of the closed ends that are within grace."""
        self.late: list[Differences] = []
        """What late rows add, as differences over ends within grace."""
        self.late_base = np.zeros((0, columns), np.int64)
        """What they added to the newest end that has left grace."""
        self.dirty: tuple[int, int] | None = None
        """Ends whose newest version has not been published, as a range."""
        self.revised = -1
        """Newest end that `revise` published: up to it a cell that came back to version 0 counts as changed too."""

    def correct(self, end: int, cells: Int64s, values: Int64s) -> None:
        """Late differences from `end` on; they cancel out by the first end that was open."""
        self.late.append(Differences(np.full(len(cells), end), cells, values))
        low, high = self.dirty or (end, end)
        self.dirty = min(low, end), max(high, end - 1)

    def close(self, upto: int, ends: Int64s, cells: Int64s, values: Int64s, *, told: bool = True) -> Iterator[Closed]:
        """Close the ends up to index `upto`, given their differences in any order; patches of version 0 in order of their ends.

        Not `told`, here and below: the same without the figures, which recovery has no use for and which cost the most.
        """
        if upto <= self.closed:
            return
        self.closed = upto
        if not len(ends):
            return
        merged = _merge(ends, cells, values)
        if not len(merged.cells):
            return
        self.running = _rows(self.running, int(merged.cells.max()) + 1)
        self.history.append(merged)
        # `merged` is ordered by cell, then end: figures are running sums within each cell
        sums = np.cumsum(merged.values, axis=0)
        start = np.append(0, np.flatnonzero(merged.cells[1:] != merged.cells[:-1]) + 1)
        counts = np.diff(np.append(start, len(merged.cells)))
        lift = self.running[merged.cells[start]] - sums[start] + merged.values[start]
        figures = sums + np.repeat(lift, counts, axis=0)
        newest = start + counts - 1
        self.running[merged.cells[newest]] = figures[newest]
        if told:
            yield from self._patches(0, merged.ends, merged.cells, figures)

    def skip(self, upto: int, final: int) -> None:
        """Ends that nobody asks for: closed, and gone from grace, without figures."""
        self.closed, self.final = max(self.closed, upto), max(self.final, final)
        self.history.clear()
        self.late.clear()
        self.dirty = None

    def settle(self, upto: int, *, told: bool = True) -> Iterator[Closed]:
        """Ends up to index `upto` leave grace: what late rows changed in them leaves too."""
        if upto <= self.final:
            return
        if self.late:
            if told:
                yield from self._later(upto)
            entries = self._one(self.late)
            past = entries.ends <= upto
            self.late_base = _rows(self.late_base, int(entries.cells.max()) + 1)
            np.add.at(self.late_base, entries.cells[past], entries.values[past])
            self.late = [Differences(*(part[~past] for part in entries))] if not past.all() else []
        self.final = upto
        if self.history:
            self.history = [h for h in self.history if int(h.ends.max()) > upto]
            if self.history and int(self.history[0].ends.min()) <= upto:
                keep = self.history[0].ends > upto
                self.history[0] = Differences(*(part[keep] for part in self.history[0]))
            # later chunks hold only later ends, for each close takes all that is due
        if self.dirty and self.dirty[0] <= upto:
            self.dirty = (upto + 1, self.dirty[1]) if self.dirty[1] > upto else None

    def revise(self, *, told: bool = True) -> Iterator[Closed]:
        """The newest figures of closed ends within grace that late rows have changed since the last call."""
        if self.dirty is None:
            return
        newest = min(self.dirty[1], self.closed)
        if told:
            yield from self._later(newest)
        self.dirty = None
        self.revised = max(self.revised, newest)

    def _later(self, upto: int) -> Iterator[Closed]:
        """Newest figures of the dirty ends up to `upto`."""
        if self.dirty is None or not self.late:
            return
        low, high = max(self.dirty[0], self.final + 1), min(self.dirty[1], upto, self.closed)
        if low > high:
            return
        late, zero = self._one(self.late), self._one(self.history)
        size = max(int(late.cells.max()) + 1, len(self.late_base))
        place, cells = np.zeros(size, np.int64), np.empty(size, np.int64)
        figures, more = np.empty((size, self.columns), np.int64), np.empty((size, self.columns), np.int64)
        count = kernels.involved(
            late.cells, self.late_base, *zero, self.final, self.running, place, cells, figures, more
        )
        figures, more = figures[:count], more[:count]
        for start in range(self.final + 1, high + 1, _BLOCK):
            stop = min(start + _BLOCK, high + 1)
            changes = np.zeros((2, stop - start, count, self.columns), np.int64)
            room = max(0, stop - max(start, low)) * count
            out = np.empty(room, np.int64), np.empty(room, np.int64), np.empty((room, self.columns), np.int64)
            told = kernels.later(
                *late, *zero, place, cells, count, start, stop, low, self.revised, figures, more, changes, *out
            )
            yield from self._cut(1, *(part[:told] for part in out))

    def _one(self, parts: list[Differences]) -> Differences:
        """The parts as one, which replaces them."""
        if not parts:
            return Differences(*_empty(self.columns))
        parts[:] = [_join(parts)]
        return parts[0]

    def _patches(self, version: int, ends: Int64s, cells: Int64s, figures: Int64s) -> Iterator[Closed]:
        order = np.argsort(ends, kind="stable")
        yield from self._cut(version, ends[order], cells[order], figures[order])

    def _cut(self, version: int, ends: Int64s, cells: Int64s, figures: Int64s) -> Iterator[Closed]:
        """One for each end; they are in order."""
        if not len(ends):
            return
        cuts = (np.flatnonzero(ends[1:] != ends[:-1]) + 1).tolist()
        for i, j in zip([0, *cuts], [*cuts, len(ends)], strict=True):
            yield Closed(self.name, int(ends[i]) * self.step, version, cells[i:j], figures[i:j])

    def dump(self) -> dict[str, Any]:
        """Everything, as arrays and numbers."""
        return {
            "closed": self.closed,
            "final": self.final,
            "running": self.running,
            "history": tuple(_join(self.history) if self.history else _empty(self.columns)),
            "late": tuple(_join(self.late) if self.late else _empty(self.columns)),
            "late_base": self.late_base,
            "dirty": self.dirty,
            "revised": self.revised,
        }

    def restore(self, dumped: dict[str, Any]) -> None:
        """Take what `dump` gave."""
        self.closed, self.final = dumped["closed"], dumped["final"]
        self.running, self.late_base = dumped["running"], dumped["late_base"]
        self.history = [Differences(*dumped["history"])] if len(dumped["history"][0]) else []
        self.late = [Differences(*dumped["late"])] if len(dumped["late"][0]) else []
        self.dirty = tuple(dumped["dirty"]) if dumped["dirty"] else None
        self.revised = dumped["revised"]


def _rows(table: Int64s, count: int) -> Int64s:
    """The table, with at least `count` rows."""
    if len(table) >= count:
        return table
    bigger = np.zeros((count + count // 2 + 8, table.shape[1]), np.int64)
    bigger[: len(table)] = table
    return bigger


def _empty(columns: int) -> tuple[Int64s, Int64s, Int64s]:
    none = np.zeros(0, np.int64)
    return none, none, np.zeros((0, columns), np.int64)


def _join(parts: list[Differences]) -> Differences:
    return parts[0] if len(parts) == 1 else Differences(*(np.concatenate(c) for c in zip(*parts, strict=True)))


def merged(ends: Int64s, cells: Int64s, values: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """(ends, cells, values) with one entry per (cell, end), ordered so, without those that are zero."""
    return _merge(ends, cells, values) if len(ends) else (ends, cells, values)


def _merge(ends: Int64s, cells: Int64s, values: Int64s) -> Differences:
    """One entry per (cell, end), ordered so, without those that are zero."""
    first = int(ends.min())
    key = cells * (int(ends.max()) - first + 1) + (ends - first)
    order = np.argsort(key)
    key = key[order]
    start = np.append(0, np.flatnonzero(key[1:] != key[:-1]) + 1)
    values = np.add.reduceat(values[order], start, axis=0)
    alive = values.any(axis=1)
    kept = order[start[alive]]
    return Differences(ends[kept], cells[kept], values[alive])
