"""Quantiles from the latency sketch: OpenTelemetry's base-2 exponential histogram of scale 4, as cells of their own."""

from __future__ import annotations

from math import ceil

import numpy as np

from core.batch import Int64s
from core.decide.measures import REQUESTS, Measures
from schemas.registers import ZERO_BUCKET, bucket_of

_SCALE = 16


class Buckets:
    """Which cells of the performance measures are the buckets of which name. Follows the measures as they grow."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._seen = 0
        self._of: dict[str, list[tuple[int, int]]] = {}
        self._columns: dict[str, tuple[list[int], Int64s]] = {}
        """Name → its buckets in order, and their cells."""

    def quantile_ms(self, window: str, name: str, q: float) -> float | None:
        """The upper bound of the bucket that holds the `q`-th part of the latencies; None without any."""
        self._follow()
        if name not in self._of:
            return None
        if (known := self._columns.get(name)) is None:
            pairs = self._of[name]
            known = self._columns[name] = [b for b, _ in pairs], np.array([c for _, c in pairs], np.int64)
        counts = self._measures.windows[window].totals[known[1], REQUESTS].cumsum()
        count = int(counts[-1])
        if not count:
            return None
        # The first bucket with which so many are there has some of its own, unless none are asked for.
        bucket = known[0][int(counts.searchsorted(max(1, ceil(q * count))))]
        return 0.0 if bucket == ZERO_BUCKET else float(2 ** ((bucket + 1) / _SCALE)) / 1000

    def _follow(self) -> None:
        for cell in range(self._seen, len(self._measures)):
            read = bucket_of(self._measures.names[cell])
            if read is not None:
                name, bucket = read
                found = self._of.setdefault(name, [])
                found.append((bucket, cell))
                found.sort()
                self._columns.pop(name, None)
        self._seen = len(self._measures)
