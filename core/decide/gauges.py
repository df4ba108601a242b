"""Gauges: the figure that a threshold or a detector looks at, of one subject, at the newest judged end of a window."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from core.batch import Int64s
from core.decide.measures import ERRORS, EVENTS, LATENCY_SUM_US, REQUESTS, SATISFIED, TOLERATING, USERS, Measures
from core.decide.sketch import Buckets
from schemas.definitions import Metric, Product
from schemas.envelope import subject
from schemas.registers import ALL
from schemas.tables import WindowName


def names_of(metric: Metric, of: str | None, features: Callable[[], Iterable[str]]) -> list[str]:
    """Whose figures are looked at: features, `service:x`, `feature:x`, or `*`, in order."""
    if of is not None:
        return [of]
    return sorted(features()) if metric in ("adoption_rate", "users") else [ALL]


def about_of(metric: Metric, name: str, product: str) -> str:
    """The subject of a finding about that name."""
    if name == ALL:
        return subject("product", product)
    if name.startswith(("service:", "feature:")) and metric not in (
        "adoption_rate",
        "users",
        "events",
        "events_per_user",
    ):
        return name
    return subject("feature", name)


class Gauges:
    """The figures of one product."""

    def __init__(self, usage: Measures, performance: Measures) -> None:
        self.usage, self.performance = usage, performance
        self.buckets = Buckets(performance)

    def value(self, metric: Metric, window: WindowName, name: str, cfg: Product, score: float | None) -> float | None:
        """The figure; None where there is no data. `score`: of the product's health."""
        if metric == "health_score":
            return score
        if metric in ("adoption_rate", "users", "events", "active_users", "events_per_user"):
            return self.of_use(metric, self.usage.windows[window].totals, name, cfg)
        return self._performance(metric, window, name)

    def of_use(self, metric: str, totals: Int64s, name: str, cfg: Product) -> float | None:
        """A figure of use, from these sums by cell."""
        cell = self.usage.cell.get(ALL if metric == "active_users" else name)
        if cell is None:
            return None
        if metric == "events":
            return float(totals[cell, EVENTS])
        users = float(totals[cell, USERS])
        if metric == "events_per_user":
            return float(totals[cell, EVENTS]) / users if users else None
        if metric != "adoption_rate":
            return users
        target = cfg.target_users or int(totals[0, USERS])
        return users / target if target > 0 and target >= cfg.min_target_users else None

    def _performance(self, metric: Metric, window: WindowName, name: str) -> float | None:
        cell = self.performance.cell.get(name)
        figures = self.performance.windows[window].totals[cell if cell is not None else 0].tolist()
        requests = figures[REQUESTS] if cell is not None else 0
        if metric == "requests":
            return float(requests)
        if not requests:
            return None
        match metric:
            case "error_rate":
                return float(figures[ERRORS] / requests)
            case "apdex":
                return float((figures[SATISFIED] + figures[TOLERATING] / 2) / requests)
            case "latency_mean_ms":
                return float(figures[LATENCY_SUM_US] / requests / 1000)
            case _:
                return self.buckets.quantile_ms(window, name, 0.95)
