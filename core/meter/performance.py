"""Performance: requests, errors, Apdex counts and latencies of every service, and sketches of them."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.batch import Int64s
from core.meter.source import Rows, Source
from core.meter.tally import Contributions, Lateness, tally
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

    def contribute(self, rows: Rows, watermarks: Int64s, late: Contributions) -> Lateness:
        """Plain sums."""
        flags, us = rows.columns["flags"], rows.columns["us"]
        weights = np.stack([np.ones_like(us), flags & 1, flags >> 1 & 1, flags >> 2 & 1, us], axis=1)
        columns = rows.columns
        kinds = np.stack([self.star[rows.group], columns["cell"], columns["all_bucket"], columns["bucket"]])
        limits = watermarks - self.grace[rows.group]
        self.pending.fit(len(self.groups), 0)
        return tally(kinds, 2, weights, rows.time, watermarks, limits, self.cell_group, self.pending, late)


def buckets(us: Int64s) -> Int64s:
    """Bucket of each latency in whole microseconds; -2 is the zero bucket.

    >>> buckets(np.array([0, 1, 2, 1000])).tolist()
    [-2, -1, 15, 159]
    """
    exact = np.ceil(np.log2(np.maximum(us, 1)) * SCALE).astype(np.int64) - 1
    return np.where(us < 1, ZERO_BUCKET, exact)
