"""Spread: contributions to window ends, gathered for a batch and then added up by (product, end, cell) in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from core.batch import Int64s

_GRID: Final = 1 << 16
"""A dense table of this many fields is cheaper than a sort."""


class Slice(NamedTuple):
    """Sums for one product and one end."""

    group: int
    end: int
    cells: Int64s
    """The product's own cell numbers, ascending."""
    values: Int64s
    """(cells, columns)."""


class Spread:
    """Differences of one window's figures, by cell, end and column."""

    def __init__(self, columns: int) -> None:
        self._chunks: list[list[tuple[Int64s, Int64s, Int64s]]] = [[] for _ in range(columns)]
        self._any = False

    def add(self, column: int, cells: Int64s, ends: Int64s, values: Int64s) -> None:
        """`values[i]` more in `column` of `cells[i]` from `ends[i]` on."""
        if len(cells):
            self._chunks[column].append((cells, ends, values))
            self._any = True

    def between(self, columns: tuple[int, ...], cells: Int64s, starts: Int64s, stops: Int64s, values: Int64s) -> None:
        """`values[i]` more from `starts[i]` on and as much less from `stops[i]` on, in each of the columns."""
        if len(cells):
            chunk = np.concatenate([cells, cells]), np.concatenate([starts, stops]), np.concatenate([values, -values])
            for column in columns:
                self._chunks[column].append(chunk)
            self._any = True

    def slices(self, cell_group: Int64s, cell_local: Int64s) -> Iterator[Slice]:
        """The sums, by group, then end, then cell; zeros left out."""
        if not self._any:
            return
        joined = [
            tuple(np.concatenate(part) for part in zip(*chunks, strict=True)) if chunks else None
            for chunks in self._chunks
        ]
        first = min(int(j[1].min()) for j in joined if j)
        span = max(int(j[1].max()) for j in joined if j) - first + 1
        width = max(int(j[0].max()) for j in joined if j) + 1
        keys = [(j[1] - first) * width + j[0] if j else None for j in joined]
        total = sum(len(k) for k in keys if k is not None)
        if span * width <= max(_GRID, 2 * total):
            places, inverse = None, keys
            size = span * width
        else:
            places, flat = np.unique(np.concatenate([k for k in keys if k is not None]), return_inverse=True)
            cuts = np.cumsum([0 if k is None else len(k) for k in keys])[:-1]
            inverse = list(np.split(flat, cuts))
            size = len(places)
        sums = np.zeros((size, len(joined)), np.int64)
        for column, (part, key) in enumerate(zip(joined, inverse, strict=True)):
            if part and key is not None and len(key):
                # sums stay below 2**53, where doubles are exact
                sums[:, column] = np.bincount(key, part[2], size)
        rows = np.flatnonzero(sums.any(axis=1))
        if not len(rows):
            return
        values = sums[rows]
        key_of = rows if places is None else places[rows]
        ends, cells = key_of // width + first, key_of % width
        groups = cell_group[cells]
        if bool((groups != groups[0]).any()):
            order = np.argsort(groups, kind="stable")
            groups, ends, cells, values = groups[order], ends[order], cells[order], values[order]
        local = cell_local[cells]
        cut = np.flatnonzero((ends[1:] != ends[:-1]) | (groups[1:] != groups[:-1])) + 1
        bounds = [0, *cut.tolist(), len(ends)]
        heads = bounds[:-1]
        for g, e, i, j in zip(groups[heads].tolist(), ends[heads].tolist(), heads, bounds[1:], strict=True):
            yield Slice(g, e, local[i:j], values[i:j])
