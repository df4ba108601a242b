"""Detectors of one product: a reading of each figure at regular ends, what the detector makes of it, and the edges.

A series begins with its first reading that is not zero, so that when a name became known does not matter. One that has given the same
reading for long rests until its figure moves: a product that has fallen asleep costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from core.decide.explain import detection_id
from core.decide.gauges import Gauges, about_of, names_of
from core.decide.slots import GRID
from core.detect.protocol import Band, Memory
from core.detect.registry import DETECTORS
from core.detect.threshold import OK, Limits, State, step
from schemas.definitions import Detector, DetectorName, Product
from schemas.detections import Anomaly, AnomalyEnded
from schemas.registers import WINDOWS

Found = Anomaly | AnomalyEnded
NO_BAND = Band(0.0, 0.0, 0.0)
RESTS_AFTER = 2_016
"""Equal readings after which a series rests: a week of five minutes."""


@dataclass(slots=True)
class Series:
    """What is kept of one figure that a detector reads."""

    algorithm: DetectorName
    memory: Memory
    readings: int = 0
    value: float = 0.0
    """The newest reading."""
    same: int = 0
    """How many readings before it were equal."""
    state: State = OK
    band: Band = NO_BAND
    """As it stood when the anomaly began."""

    def row(self) -> list[Any]:
        """As a state row."""
        s = self.state
        phase = [s.phase, s.since, s.crossed_since, s.fired_at]
        return [self.algorithm, self.memory, self.readings, self.value, self.same, phase, list(self.band)]

    @classmethod
    def of(cls, row: list[Any]) -> Series | None:
        """From a state row; None where the detector no longer reads such a memory."""
        algorithm, memory, readings, value, same, phase, band = row
        if algorithm not in DETECTORS or DETECTORS[algorithm].version != memory[0]:
            return None
        return cls(algorithm, memory, readings, value, same, State(*phase), Band(*band))


def every_ms(detector: Detector) -> int:
    """Milliseconds between two readings."""
    return detector.every_s * 1000 if detector.every_s is not None else GRID[detector.window]


class Anomalies:
    """The detectors' series of one product."""

    def __init__(self, tenant: str, product: str, gauges: Gauges) -> None:
        self.tenant, self.product, self.gauges = tenant, product, gauges
        self.series: dict[tuple[str, str], Series] = {}
        """(detector, name) → series; the name as of a threshold."""
        self.dirty: set[tuple[str, str]] = set()
        """Series that moved, began or went since the last checkpoint."""

    def judge(
        self,
        detectors: Iterable[Detector],
        end: int,
        cfg: Product,
        features: Callable[[], Iterable[str]],
        score: float | None,
    ) -> tuple[list[Found], set[int]]:
        """Read what is due at `end`, an end of each detector's window; the edges in order of name, and the ends now due."""
        found: list[Found] = []
        ends: set[int] = set()
        for detector in detectors:
            every = every_ms(detector)
            if end % every:
                ends.add(-(-end // every) * every)
                continue
            awake = False
            for name in names_of(detector.metric, detector.of, features):
                value = self.gauges.value(detector.metric, detector.window, name, cfg, score)
                edge, moving = self._read(detector, name, value, end)
                awake |= moving
                found += [] if edge is None else [edge]
            if awake:
                ends.add(end + every)
        return found, ends

    def retain(self, detectors: Iterable[Detector]) -> None:
        """Forget the series of detectors that are no more, or that are of another kind now."""
        kinds = {d.name: d.detector for d in detectors}
        for key, series in list(self.series.items()):
            if kinds.get(key[0]) != series.algorithm:
                del self.series[key]
                self.dirty.add(key)

    def _read(self, detector: Detector, name: str, value: float | None, end: int) -> tuple[Found | None, bool]:
        """Read one figure: the edge, and whether the series is to be read again though nothing moves."""
        key = (detector.name, name)
        series = self.series.get(key)
        if value is None or not isfinite(value) or (series is None and value == 0.0):
            return None, False
        algorithm = DETECTORS[detector.detector]
        if series is None:
            series = self.series[key] = Series(detector.detector, algorithm.begin())
        elif value == series.value and series.same >= RESTS_AFTER and series.state == OK:
            return None, False
        self.dirty.add(key)
        before = series.memory
        series.memory, score, up = algorithm.step(before, end, value)
        series.same = series.same + 1 if value == series.value else 0
        series.value, series.readings = value, series.readings + 1
        if series.readings <= detector.learn:
            return None, True
        counts = score if detector.direction == "both" or up == (detector.direction == "up") else 0.0
        state = series.state
        series.state, edge = step(state, counts, end, _limits(detector))
        if edge == "crossed":
            series.band = algorithm.band(before, end, detector.limit)
            return self._began(detector, name, series, score, up, end), True
        if edge == "cleared":
            return self._ended(detector, name, series, state, end), True
        return None, True

    def _began(self, detector: Detector, name: str, series: Series, score: float, up: bool, end: int) -> Found:
        return Anomaly.model_validate(
            {
                **self._common("anomaly", detector, name, series, end),
                "score": score,
                "limit": detector.limit,
                "direction": "up" if up else "down",
                "since": series.state.crossed_since,
            }
        )

    def _ended(self, detector: Detector, name: str, series: Series, firing: State, end: int) -> Found:
        common = self._common("anomaly_ended", detector, name, series, end)
        return AnomalyEnded.model_validate({**common, "fired_at": firing.fired_at})

    def _common(self, kind: str, detector: Detector, name: str, series: Series, end: int) -> dict[str, object]:
        about = about_of(detector.metric, name, self.product)
        return {
            "id": detection_id(kind, self.tenant, self.product, about, end, detector.name),
            "tenant": self.tenant,
            "product": self.product,
            "subject": about,
            "at": end,
            "detector": detector.name,
            "algorithm": detector.detector,
            "metric": detector.metric,
            "value": series.value,
            "expected": series.band.expected,
            "low": series.band.low,
            "high": series.band.high,
            "window": detector.window,
            "window_start": end - WINDOWS[detector.window][0],
            "window_end": end,
        }


def _limits(detector: Detector) -> Limits:
    return Limits(
        ">=", detector.limit, detector.clear_limit, detector.for_s, detector.keep_firing_for_s, on_no_data="keep"
    )
