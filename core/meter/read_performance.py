"""Reading `events.performance`: services, latencies and errors as numbers, and the cells of the sketches that latencies fall into."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import numpy as np

from core.batch import Int64s
from core.kernels import fields as kernel
from core.meter.hot import PERFORMANCE, TOO_SLOW_MS
from core.meter.index import Bools
from core.meter.intern import Flags, Grid, Prefixed, codes
from core.meter.performance import Performance, buckets
from core.meter.plain import Scan
from core.meter.products import SettingsOf
from core.meter.read import Reader
from schemas.registers import bucket_cell

_FAILED: Final[dict[int | None, int]] = {None: 0} | {status: int(status >= 500) for status in range(100, 600)}
"""HTTP status → whether it is an error."""
_type, _service, _feature = map(attrgetter, ("type", "service", "feature"))
_latency, _error, _status = map(attrgetter, ("latency_ms", "error", "status"))


class PerformanceReader(Reader):
    """Reads `events.performance`."""

    source: Performance
    either = ("service", "feature")

    def __init__(self, source: Performance, settings: SettingsOf, seed: int) -> None:
        self._types = Flags({"request.completed": 1}, 0)
        self._services = Prefixed(source.names, "service:")
        self._features = Prefixed(source.names, "feature:")
        self._bucket_of = Grid()
        super().__init__(
            source,
            PERFORMANCE,
            settings,
            seed,
            {"type": self._types, "service": self._services, "feature": self._features},
        )

    def _scanned_columns(self, scan: Scan, plain: Bools) -> tuple[dict[str, Any], Bools]:
        figures, latency = scan.figures, scan.latencies
        services = figures[kernel.SERVICE]
        services = np.where(services > 0, services, figures[kernel.FEATURE])
        longer = np.flatnonzero(plain & (figures[kernel.LENGTH] > 0))
        if len(longer):
            latency[longer] = scan.floats(longer)
        fine = (services > 0) & (figures[kernel.TYPE] > 0) & (latency >= 0) & (latency <= TOO_SLOW_MS)
        return {"name": services, "latency": latency, "error": figures[kernel.FAILED]}, fine

    def _columns(self, rows: list[Any], n: int) -> tuple[dict[str, Any], Bools]:
        services = codes(self._services, map(_service, rows), n)
        if not services.all():
            features = codes(self._features, map(_feature, rows), n)
            services = np.where(services > 0, services, features)
        types = codes(self._types, map(_type, rows), n)
        latency = np.fromiter(map(_latency, rows), np.float64, n)
        errors = np.fromiter(map(bool, map(_error, rows)), np.int64, n)
        errors |= codes(_FAILED, map(_status, rows), n)
        fine = (services > 0) & (types > 0) & (latency >= 0)
        return {"name": services, "latency": latency, "error": errors}, fine

    def _number(self, groups: Int64s, columns: dict[str, Any]) -> dict[str, Int64s]:
        source, latency, t = self.source, columns["latency"], self._products.t_ms[groups]
        satisfied = latency <= t
        tolerating = ~satisfied & (latency <= 4 * t)
        us = np.rint(latency * 1000).astype(np.int64)
        cells = source.cells(groups, columns["name"])
        bucket = buckets(us)
        return {
            "cell": cells,
            "bucket": self._bucket_cells(groups, cells, bucket),
            "all_bucket": self._bucket_cells(groups, source.star[groups], bucket),
            "flags": columns["error"] | satisfied.astype(np.int64) << 1 | tolerating.astype(np.int64) << 2,
            "us": us,
        }

    def _bucket_cells(self, groups: Int64s, cells: Int64s, bucket: Int64s) -> Int64s:
        found = self._bucket_of.get(cells, bucket + 2)
        missing = np.flatnonzero(found == 0)
        if len(missing):
            source = self.source
            wanted = np.unique((cells[missing] << 32) | (bucket[missing] + 2))
            for cell, shifted in zip((wanted >> 32).tolist(), (wanted & 0xFFFFFFFF).tolist(), strict=True):
                name = np.array([source.names[bucket_cell(source.cell_names[cell], shifted - 2)]])
                number = int(source.cells(source.cell_group[[cell]], name)[0])
                self._bucket_of.put(cell, shifted, number)
            found = self._bucket_of.get(cells, bucket + 2)
        return found

    def _lacks(self, row: Any) -> str | None:
        if row.type != "request.completed":
            return f"`type` {row.type!r} is not request.completed"
        if row.service is None and row.feature is None:
            return "request.completed needs a `service` or a `feature`"
        return None
