"""Quantiles from the latency sketch: OpenTelemetry's base-2 exponential histogram of scale 4, as cells of their own."""

from __future__ import annotations

from math import ceil

from core.decide.measures import REQUESTS, Measures
from schemas.registers import ZERO_BUCKET, bucket_of

_SCALE = 16


class Buckets:
    """Which cells of the performance measures are the buckets of which name. Follows the measures as they grow."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._seen = 0
        self._of: dict[str, list[tuple[int, int]]] = {}

    def quantile_ms(self, window: str, name: str, q: float) -> float | None:
        """The upper bound of the bucket that holds the `q`-th part of the latencies; None without any."""
        self._follow()
        totals = self._measures.windows[window].totals
        counts = [(bucket, int(totals[cell, REQUESTS])) for bucket, cell in self._of.get(name, ())]
        rank = ceil(q * sum(n for _, n in counts))
        for bucket, n in counts:
            rank -= n
            if n and rank <= 0:
                return 0.0 if bucket == ZERO_BUCKET else float(2 ** ((bucket + 1) / _SCALE)) / 1000
        return None

    def _follow(self) -> None:
        for cell in range(self._seen, len(self._measures)):
            read = bucket_of(self._measures.names[cell])
            if read is not None:
                name, bucket = read
                found = self._of.setdefault(name, [])
                found.append((bucket, cell))
                found.sort()
        self._seen = len(self._measures)
