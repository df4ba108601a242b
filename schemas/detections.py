"""Detections: typed findings, published on `detections`, key `tenant|kind:subject`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.definitions import DetectorName
from schemas.envelope import Millis, Tenant, Word
from schemas.tables import Band, Stage, WindowName


class _Detection(Word):
    id: str
    """uuid5 of tenant, kind, subject and the window end (or event) that caused it."""
    tenant: Tenant
    product: str
    subject: str
    """`kind:id`."""
    at: Millis
    """Event time at which it holds: the end of the window judged."""
    act: bool = True
    """False for backfilled data: published, but no rule acts on it."""


class StageEntered(_Detection):
    """A feature's adoption entered a stage."""

    kind: Literal["stage_entered"] = "stage_entered"
    feature: str
    stage: Stage
    previous: Stage
    rate: float | None
    users: int
    target_users: int
    organic_share: float | None
    window: WindowName
    window_start: Millis
    window_end: Millis


class ViralEntered(_Detection):
    """A feature spreads by itself: organic share above the border with enough adopters."""

    kind: Literal["viral_entered"] = "viral_entered"
    feature: str
    organic_share: float
    users: int
    target_users: int
    rate: float | None
    window: WindowName
    window_start: Millis
    window_end: Millis


class BandEntered(_Detection):
    """A product's health entered a band."""

    kind: Literal["band_entered"] = "band_entered"
    band: Band
    previous: Band
    score: float | None
    components: dict[str, float]
    weakest: str | None
    """The component with the lowest score."""
    window: WindowName
    window_start: Millis
    window_end: Millis


class ThresholdCrossed(_Detection):
    """A figure has been past its threshold for long enough."""

    kind: Literal["threshold_crossed"] = "threshold_crossed"
    threshold: str
    """Name of the threshold's definition."""
    metric: str
    value: float | None
    """Null where the state is "no data" and the definition alerts on that."""
    limit: float
    since: Millis
    window: WindowName
    window_start: Millis
    window_end: Millis


class ThresholdCleared(_Detection):
    """…and has come back."""

    kind: Literal["threshold_cleared"] = "threshold_cleared"
    threshold: str
    metric: str
    value: float | None
    limit: float
    fired_at: Millis
    window: WindowName
    window_start: Millis
    window_end: Millis


class _Anomaly(_Detection):
    detector: str
    """Name of the detector's definition."""
    algorithm: DetectorName
    metric: str
    value: float
    expected: float
    """What the detector expected when the anomaly began."""
    low: float
    high: float
    """Between these a reading would have been ordinary then."""
    window: WindowName
    window_start: Millis
    window_end: Millis


class ScheduleDue(_Detection):
    """A rule's schedule is due: event time has passed `at`."""

    kind: Literal["schedule_due"] = "schedule_due"
    schedule: str
    """Name of the rule whose schedule it is."""
    due: str
    """`YYYY-MM-DD HH:MM` on the wall clock of `zone`."""
    zone: str
    late: bool
    """Whether it is one of those that were missed (see the trigger's `catch_up`)."""
    score: float | None
    """The product's health, as it was judged last."""
    window: WindowName
    window_start: Millis
    window_end: Millis


class Anomaly(_Anomaly):
    """A figure is unusual by its own past, and has been for long enough."""

    kind: Literal["anomaly"] = "anomaly"
    score: float
    """Minus the decimal logarithm of the share of readings that are as unusual: 3 is one in a thousand."""
    limit: float
    direction: Literal["up", "down"]
    since: Millis


class AnomalyEnded(_Anomaly):
    """…and is ordinary again, or what was unusual has become ordinary."""

    kind: Literal["anomaly_ended"] = "anomaly_ended"
    fired_at: Millis


Detection = Annotated[
    StageEntered
    | ViralEntered
    | BandEntered
    | ThresholdCrossed
    | ThresholdCleared
    | Anomaly
    | AnomalyEnded
    | ScheduleDue,
    Field(discriminator="kind"),
]
DETECTION: TypeAdapter[Detection] = TypeAdapter(Detection)
