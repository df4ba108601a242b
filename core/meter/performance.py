"""Performance: requests, errors, Apdex counts and latencies of every service, and sketches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from core.batch import Int64s
from core.meter.source import Rows, Source
from core.meter.tally import Contributions, Reach, tally
from schemas.registers import ZERO_BUCKET

SCALE: Final = 16
"""Buckets per doubling: 2**4, scale 4 of the OpenTelemetry base-2 exponential histogram."""
COLUMNS: Final = ("requests", "errors", "satisfied", "tolerating", "latency_sum_us")


class Performance(Source):
    """State of one partition of `events.performance`.

    Columns of its rows: `cell`, `bucket` and `all_bucket` (cells of the sketch of the name and of `*`), `flags` (1 error,
    2 satisfied, 4 tolerating), `us`.
    """

    columns = COLUMNS

    def contribute(self, rows: Rows, by_level: Sequence[Reach], out: Contributions) -> None:
        """Plain sums."""
        flags, us = rows.columns["flags"], rows.columns["us"]
        values = [(1, flags & 1), (2, flags >> 1 & 1), (3, flags >> 2 & 1), (4, us)]
        twice = [Reach(*(np.concatenate([c, c]) for c in reach)) for reach in by_level]
        named = np.concatenate([self.star[rows.group], rows.columns["cell"]])
        tally(out, [(0, None), *((c, np.concatenate([v, v])) for c, v in values)], named, twice)
        buckets = np.concatenate([rows.columns["all_bucket"], rows.columns["bucket"]])
        tally(out, [(0, None)], buckets, twice)


def buckets(us: Int64s) -> Int64s:
    """Bucket of each latency in whole microseconds; -2 is the zero bucket.

    >>> buckets(np.array([0, 1, 2, 1000])).tolist()
    [-2, -1, 15, 159]
    """
    exact = np.ceil(np.log2(np.maximum(us, 1)) * SCALE).astype(np.int64) - 1
    return np.where(us < 1, ZERO_BUCKET, exact)
