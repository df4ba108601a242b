"""Thresholds of one product: which figure each is about, where each subject stands, and the edges."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from core.decide.explain import detection_id
from core.decide.gauges import Gauges, about_of, names_of
from core.decide.slots import next_end
from core.detect.threshold import OK, State, due, is_past, step
from schemas.definitions import Product, Threshold
from schemas.detections import ThresholdCleared, ThresholdCrossed
from schemas.registers import WINDOWS

Crossing = ThresholdCrossed | ThresholdCleared


class Alarms:
    """The thresholds' states of one product; subjects that are `ok` take no room."""

    def __init__(self, tenant: str, product: str, gauges: Gauges) -> None:
        self.tenant, self.product = tenant, product
        self.gauges = gauges
        self.states: dict[tuple[str, str], State] = {}
        """(threshold, name) → state; the name is a feature, `service:x`, `feature:x`, or `*`."""

    def judge(
        self,
        thresholds: Iterable[Threshold],
        end: int,
        cfg: Product,
        features: Callable[[], Iterable[str]],
        score: float | None,
    ) -> tuple[list[Crossing], set[int]]:
        """Judge these thresholds at an end of their window; the edges in order of name, and the ends now due. `features`: asked for
        only where a threshold looks at each.
        """
        found: list[Crossing] = []
        ends: set[int] = set()
        for threshold in thresholds:
            for name in names_of(threshold.metric, threshold.of, features):
                state = self.states.get((threshold.name, name), OK)
                value = self.gauges.value(threshold.metric, threshold.window, name, cfg, score)
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

    def _crossing(self, threshold: Threshold, name: str, value: float | None, end: int, state: State) -> Crossing:
        about = about_of(threshold.metric, name, self.product)
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
