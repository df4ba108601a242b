"""Spread: contributions to window ends, gathered for a batch and then added up by (product, end, cell) in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class _Chunk(NamedTuple):
    cells: Int64s
    starts: Int64s
    stops: Int64s
    columns: Sequence[tuple[int, Int64s | None]]


class Spread:
    """Differences of one window's figures, by cell, end and column."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._chunks: list[_Chunk] = []

    def between(
        self, cells: Int64s, starts: Int64s, stops: Int64s, columns: Sequence[tuple[int, Int64s | None]]
    ) -> None:
        """Each column's values more from `starts[i]` on, and as much less from `stops[i]` on. No values: one each."""
        if len(cells):
            self._chunks.append(_Chunk(cells, starts, stops, columns))

    def slices(self, cell_group: Int64s, cell_local: Int64s) -> Iterator[Slice]:
        """The sums, by group, then end, then cell; zeros left out."""
        if not self._chunks:
            return
        edges = [edge for chunk in self._chunks for edge in (chunk.starts, chunk.stops)]
        distinct, rank = _ranked(edges)
        width = max(int(chunk.cells.max()) for chunk in self._chunks) + 1
        keys = [r * width + chunk.cells for chunk, pair in zip(self._chunks, rank, strict=True) for r in pair]
        size = len(distinct) * width
        total = sum(map(len, keys))
        places = None
        if size > max(_GRID, 2 * total):
            places, flat = np.unique(np.concatenate(keys), return_inverse=True)
            keys = np.split(flat, np.cumsum([len(k) for k in keys])[:-1])
            size = len(places)
        sums = [np.zeros(size, np.int64) for _ in range(self._columns)]
        for i, chunk in enumerate(self._chunks):
            up, down = keys[2 * i], keys[2 * i + 1]
            for column, values in chunk.columns:
                # sums stay below 2**53, where doubles are exact
                more, less = np.bincount(up, values, size), np.bincount(down, values, size)
                sums[column] += (more - less).astype(np.int64)
        alive = sums[0] != 0
        for column_sums in sums[1:]:
            alive |= column_sums != 0
        rows = np.flatnonzero(alive)
        if not len(rows):
            return
        values = np.stack([s[rows] for s in sums], axis=1)
        key_of = rows if places is None else places[rows]
        ends, cells = distinct[key_of // width], key_of % width
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


def _ranked(edges: Sequence[Int64s]) -> tuple[Int64s, list[tuple[Int64s, Int64s]]]:
    """The distinct values of the arrays, ascending, and for each pair of arrays the places of its values among them."""
    low = min(int(e.min()) for e in edges)
    span = max(int(e.max()) for e in edges) - low + 1
    if span <= max(_GRID, 2 * sum(map(len, edges))):
        there = np.zeros(span, np.bool_)
        for e in edges:
            there[e - low] = True
        distinct = np.flatnonzero(there) + low
        place = np.cumsum(there) - 1
        ranks = [place[e - low] for e in edges]
    else:
        distinct = np.unique(np.concatenate(edges))
        ranks = [np.searchsorted(distinct, e) for e in edges]
    return distinct, list(zip(ranks[::2], ranks[1::2], strict=True))
