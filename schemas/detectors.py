"""Thresholds and detectors: what watches a figure of a window."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.described import Described, Finite, Seconds
from schemas.tables import WindowName

STEP_S: dict[WindowName, int] = {"5m": 10, "1h": 60, "1d": 3_600, "7d": 86_400, "28d": 86_400}
"""Window → seconds between two of its ends."""

Metric = Literal[
    "adoption_rate",
    "users",
    "events",
    "active_users",
    "events_per_user",
    "error_rate",
    "requests",
    "apdex",
    "latency_p95_ms",
    "latency_mean_ms",
    "health_score",
]
"""A figure of a window that thresholds and detectors look at."""


class Threshold(Described):
    """A figure of a window against a limit."""

    kind: Literal["threshold"] = "threshold"
    product: str | None = None
    """Absent: every product of the tenant."""
    metric: Metric
    of: str | None = None
    """The feature or `service:x`; absent: each of them (adoption_rate, users) or the product's total."""
    window: WindowName = "5m"
    op: Literal[">", ">=", "<", "<="]
    limit: Finite
    clear_limit: Finite | None = None
    """Hysteresis: clears only past this; absent: the limit itself."""
    for_s: Seconds = 0
    keep_firing_for_s: Seconds = 0
    on_no_data: Literal["keep", "ok", "alert"] = "keep"


DetectorName = Literal["level", "daily", "weekly"]


class Detector(Described):
    """A figure of a window against its own past."""

    kind: Literal["detector"] = "detector"
    product: str | None = None
    """Absent: every product of the tenant."""
    detector: DetectorName = "level"
    """`level`: against its level; `daily`, `weekly`: against what the same hour (UTC) of the day or week usually brings."""
    metric: Metric
    of: str | None = None
    """As of a threshold."""
    window: WindowName = "5m"
    every_s: Annotated[int, Field(ge=10, le=7 * 86_400)] | None = None
    """Time between two readings, a multiple of the window's step; absent: that of the rows that tables keep (5m: 300, 1h: 60,
    1d: 3600, 7d and 28d: 86400)."""
    learn: Annotated[int, Field(ge=10, le=100_000)] = 100
    """Readings before anything is detected."""
    limit: Annotated[float, Field(ge=1.7, le=12)] = 2.7
    """Score from which a reading is an anomaly: 2.7 is one reading in five hundred, 3 one in a thousand, by the figure's own past."""
    clear_limit: Annotated[float, Field(ge=0, le=12)] | None = None
    direction: Literal["up", "down", "both"] = "both"
    for_s: Seconds = 0
    keep_firing_for_s: Seconds = 3_600
    """How long readings must be ordinary before the anomaly is over; another begins only after that."""

    @model_validator(mode="after")
    def _regular(self) -> Detector:
        step = STEP_S[self.window]
        if self.every_s is not None and self.every_s % step:
            raise ValueError(f"every_s: windows of {self.window} end every {step} s; give a multiple of that")
        return self
