"""Thresholds of one product: which figure each is about, where each subject stands, and the edges."""

from __future__ import annotations

from collections.abc import Iterable

from core.decide.explain import detection_id
from core.decide.measures import ERRORS, EVENTS, LATENCY_SUM_US, REQUESTS, SATISFIED, TOLERATING, USERS, Measures
from core.decide.sketch import Buckets
from core.decide.slots import next_end
from core.detect.threshold import OK, State, due, is_past, step
from schemas.definitions import Product, Threshold
from schemas.detections import ThresholdCleared, ThresholdCrossed
from schemas.envelope import subject
from schemas.registers import ALL, WINDOWS

Crossing = ThresholdCrossed | ThresholdCleared


class Alarms:
    """The thresholds' states of one product; subjects that are `ok` take no room."""

    def __init__(self, tenant: str, product: str, usage: Measures, performance: Measures) -> None:
        self.tenant, self.product, self.usage, self.performance = tenant, product, usage, performance
        self.buckets = Buckets(performance)
        self.states: dict[tuple[str, str], State] = {}
        """(threshold, name) → state; the name is a feature, `service:x`, `feature:x`, or `*`."""

    def judge(
        self,
        thresholds: Iterable[Threshold],
        end: int,
        cfg: Product,
        features: Iterable[str],
        score: float | None,
    ) -> tuple[list[Crossing], set[int]]:
        """Judge these thresholds at an end of their window; the edges in order of name, and the ends now due."""
        found: list[Crossing] = []
        ends: set[int] = set()
        for threshold in thresholds:
            for name in self._names(threshold, features):
                state = self.states.get((threshold.name, name), OK)
                value = self._value(threshold, name, cfg, score)
                if state is OK and not is_past(value, threshold):
                    continue
                after, edge = step(state, value, end, threshold)
                if after == OK:
                    self.states.pop((threshold.name, name), None)
                else:
                    self.states[threshold.name, name] = after
                if edge is not None:
                    found.append(self._crossing(threshold, name, value, end, after if edge == "crossed" else state))
                again = due(after, threshold)
                if again is not None and again > end:
                    ends.add(next_end(threshold.window, again))
        return found, ends

    def retain(self, thresholds: Iterable[Threshold]) -> None:
        """Forget the states of thresholds that are no more."""
        names = {t.name for t in thresholds}
        for key in [k for k in self.states if k[0] not in names]:
            del self.states[key]

    def _names(self, threshold: Threshold, features: Iterable[str]) -> list[str]:
        if threshold.of is not None:
            return [threshold.of]
        return sorted(features) if threshold.metric in ("adoption_rate", "users") else [ALL]

    def _value(self, threshold: Threshold, name: str, cfg: Product, score: float | None) -> float | None:
        if threshold.metric == "health_score":
            return score
        if threshold.metric in ("adoption_rate", "users", "events", "active_users"):
            return self._usage(threshold, ALL if threshold.metric == "active_users" else name, cfg)
        return self._performance(threshold, name)

    def _usage(self, threshold: Threshold, name: str, cfg: Product) -> float | None:
        totals = self.usage.windows[threshold.window].totals
        cell = self.usage.cell.get(name)
        if cell is None:
            return None
        if threshold.metric == "events":
            return float(totals[cell, EVENTS])
        users = float(totals[cell, USERS])
        if threshold.metric != "adoption_rate":
            return users
        target = cfg.target_users or int(totals[0, USERS])
        return users / target if target > 0 and target >= cfg.min_target_users else None

    def _performance(self, threshold: Threshold, name: str) -> float | None:
        cell = self.performance.cell.get(name)
        figures = self.performance.windows[threshold.window].totals[cell if cell is not None else 0].tolist()
        requests = figures[REQUESTS] if cell is not None else 0
        if threshold.metric == "requests":
            return float(requests)
        if not requests:
            return None
        match threshold.metric:
            case "error_rate":
                return float(figures[ERRORS] / requests)
            case "apdex":
                return float((figures[SATISFIED] + figures[TOLERATING] / 2) / requests)
            case "latency_mean_ms":
                return float(figures[LATENCY_SUM_US] / requests / 1000)
            case _:
                return self.buckets.quantile_ms(threshold.window, name, 0.95)

    def _crossing(self, threshold: Threshold, name: str, value: float | None, end: int, state: State) -> Crossing:
        if name == ALL:
            about = subject("product", self.product)
        elif name.startswith(("service:", "feature:")) and threshold.metric not in ("adoption_rate", "users", "events"):
            about = name
        else:
            about = subject("feature", name)
        crossed = state.phase == "firing" and state.fired_at == end
        kind = "threshold_crossed" if crossed else "threshold_cleared"
        common: dict[str, object] = {
            "id": detection_id(kind, self.tenant, self.product, about, end, threshold.name),
            "tenant": self.tenant,
            "product": self.product,
            "subject": about,
            "at": end,
            "threshold": threshold.name,
            "metric": threshold.metric,
            "value": value,
            "limit": threshold.limit,
            "window": threshold.window,
            "window_start": end - WINDOWS[threshold.window][0],
            "window_end": end,
        }
        if crossed:
            return ThresholdCrossed.model_validate({**common, "since": state.crossed_since})
        return ThresholdCleared.model_validate({**common, "fired_at": state.fired_at})
