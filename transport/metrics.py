"""Where this room's figures go; `app.telemetry` fills it with Prometheus, names and labels as in `core.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Metrics(Protocol):
    """Takes figures by metric name; labels are values in the declared order."""

    def count(self, name: str, n: float = 1, labels: Sequence[str] = ()) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        """Add an observation to a histogram, or set a gauge."""


class Unmetered:
    """Forgets every figure: for tools and tests that export none."""

    def count(self, name: str, n: float = 1, labels: Sequence[str] = ()) -> None:
        """Forget it."""

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        """Forget it."""
