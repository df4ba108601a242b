"""Chunks: some rows of a batch, read together and as columns. Their bytes are read while they are in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from core.batch import Int64s
from core.meter.index import Bools, UInt64s
from core.meter.wire import Bad, Marker

CHUNK: Final = 2_048
"""Rows read together, at most; they come from one payload."""
LEAST: Final = 128
"""Rows of fewer are put into one payload first: what costs something a chunk would be paid for every stored batch."""


class Chunk(NamedTuple):
    """Columns have a place for every row, good or bad; positions are those in the batch."""

    times: Int64s
    tenants: Int64s
    products: Int64s
    hashes: UInt64s
    """Of the rows' ids."""
    columns: dict[str, Any]
    """The topic's own."""
    good: Bools
    bad: dict[int, Bad | None]
    markers: dict[int, Marker]
    origins: dict[int, int]
    """Of rows that name a source."""
    kept: dict[int, Any]
    """Decoded rows that somebody watches for."""
    decoded: int
    """Rows that were not read as columns."""

    def put(self, at: Int64s, other: Chunk) -> None:
        """Take the other's rows in place of those that stand at `at`; its positions are those in the batch already."""
        for mine, its in ((self.times, other.times), (self.tenants, other.tenants), (self.products, other.products)):
            mine[at] = its
        self.hashes[at], self.good[at] = other.hashes, other.good
        for name, column in self.columns.items():
            column[at] = other.columns[name]
        for known, more in (
            (self.bad, other.bad),
            (self.markers, other.markers),
            (self.origins, other.origins),
            (self.kept, other.kept),
        ):
            known.update(more)  # type: ignore[arg-type]


def join(parts: Sequence[Chunk]) -> Chunk:
    """One chunk of consecutive ones."""
    if len(parts) == 1:
        return parts[0]
    joined: list[Any] = []
    for column in zip(*parts, strict=True):
        first = column[0]
        if isinstance(first, int):
            joined.append(sum(column))
        elif isinstance(first, np.ndarray):
            joined.append(np.concatenate(column))
        elif first and isinstance(next(iter(first.values())), np.ndarray):
            joined.append({name: np.concatenate([c[name] for c in column]) for name in first})
        else:
            joined.append({i: what for c in column for i, what in c.items()})
    return Chunk(*joined)
