"""Metrics: the declarations of `core.metrics` as a Prometheus registry, and the two calls everybody makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from core.metrics import METRICS, Metric

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS: Final = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000)
Update = Callable[[float], None]


class Telemetry:
    """One process's metrics. Every metric of `core.metrics` exists from the start; an unknown name is a `KeyError`."""

    def __init__(self, *, process: bool = True) -> None:
        self.registry = CollectorRegistry()
        self._collectors = {name: self._make(name, metric) for name, metric in METRICS.items()}
        self._updates: dict[tuple[str, tuple[str, ...]], Update] = {}
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)

    def count(self, name: str, n: float = 1, labels: Sequence[str] = ()) -> None:
        """Adds `n` to a counter."""
        self._update(name, labels)(n)

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        """Sets a gauge, or adds an observation to a histogram."""
        self._update(name, labels)(value)

    def text(self, names: Sequence[str] = ()) -> bytes:
        """All of it in Prometheus' text format, or only samples of these names: who looks often asks for what it looks at."""
        return generate_latest(self.registry.restricted_registry(names) if names else self.registry)

    def _update(self, name: str, given: Sequence[str]) -> Update:
        labels = tuple(given)
        # Finding a labelled child costs more than adding to it, so each is found once.
        update = self._updates.get((name, labels))
        if update is None:
            collector = self._collectors[name]
            child = collector.labels(*labels) if labels else collector
            if isinstance(child, Counter):
                update = child.inc
            elif isinstance(child, Gauge):
                update = child.set
            else:
                update = child.observe
            self._updates[name, labels] = update
        return update

    def _make(self, name: str, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "counter":
            return Counter(name.removesuffix("_total"), metric.help, metric.labels, registry=self.registry)
        if metric.kind == "gauge":
            return Gauge(name, metric.help, metric.labels, registry=self.registry)
        buckets = SECONDS if name.endswith("_seconds") else ROWS
        return Histogram(name, metric.help, metric.labels, registry=self.registry, buckets=buckets)
