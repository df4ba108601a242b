"""Chunks: some rows of a batch, decoded together and as columns. Their strings are read while they are in the cache, and let go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from core.batch import Int64s
from core.meter.index import Bools, UInt64s
from core.meter.wire import Bad, Marker

CHUNK: Final = 1_024
"""Rows decoded together."""


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


def join(parts: Sequence[Chunk]) -> Chunk:
    """One chunk of consecutive ones."""
    if len(parts) == 1:
        return parts[0]
    joined: list[Any] = []
    for column in zip(*parts, strict=True):
        first = column[0]
        if isinstance(first, np.ndarray):
            joined.append(np.concatenate(column))
        elif first and isinstance(next(iter(first.values())), np.ndarray):
            joined.append({name: np.concatenate([c[name] for c in column]) for name in first})
        else:
            joined.append({i: what for c in column for i, what in c.items()})
    return Chunk(*joined)
