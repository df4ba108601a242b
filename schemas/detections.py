"""Detections: typed findings, published on `detections`, key `tenant|kind:subject`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.definitions import DetectorName, PredictionModel
from schemas.envelope import Millis, Tenant, Word
from schemas.outcomes import Verdict
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


class VerdictReached(_Detection):
    """It is clear whether a rule helps: its outcome got another verdict."""

    kind: Literal["verdict_reached"] = "verdict_reached"
    rule: str
    """The rule's id."""
    verdict: Verdict
    previous: Verdict
    metric: str
    direction: Literal["up", "down"]
    command_type: str
    uplift: float
    low: float
    high: float
    treated: int
    """Subjects who got the command (of product rules: commands compared with the time before)."""
    held: int
    alpha: float
    pauses: bool
    """Whether the rule is paused because of it."""
    window: str
    window_start: Millis
    window_end: Millis


class Change(Word):
    """A figure's mean over the days of the report beside that over as many days before, and the 95 % interval of the difference."""

    before: float
    after: float
    difference: float
    low: float
    high: float
    days_before: int
    days_after: int


class Response(Word):
    """From the event time at which commands were decided to their delivery."""

    commands: int
    p50_ms: float
    p95_ms: float


class Ranked(Word):
    """A measured rule, as the report ranks it."""

    rule: str
    command_type: str
    trigger: str
    verdict: Verdict
    uplift: float
    low: float | None
    high: float | None
    subjects: int


class Factor(Word):
    """What measured rules have in common, and how far they got: the mean of their uplifts, in the direction that each wants."""

    factor: Literal["domain", "trigger", "command"]
    value: str
    rules: int
    working: int
    harmful: int
    mean_uplift: float


class Calibration(Word):
    """Predictions about subjects held out, beside what they did: nothing was done about them, so it can be compared."""

    subjects: int
    predicted: float
    observed: float
    brier: float


class OutcomeReport(_Detection):
    """What the rules of a product have brought, and how the product moved meanwhile. What cannot be told is null."""

    kind: Literal["outcome_report"] = "outcome_report"
    every: Literal["week", "month"]
    engagement: Change | None = None
    adoption: Change | None = None
    responsiveness: Change | None = None
    reliability: Change | None = None
    health: Change | None = None
    satisfaction: Change | None = None
    market_share: Change | None = None
    """Share of features in the stage "market"."""
    active_users: Change | None = None
    response: Response | None = None
    response_before: Response | None = None
    ranked: list[Ranked]
    """Measured rules, the most useful first."""
    factors: list[Factor]
    calibration: Calibration | None = None
    gain: float | None = None
    """What conversions with a value brought in beyond what the held out would have, of all rules, since each began."""
    gain_low: float | None = None
    gain_high: float | None = None
    working: int
    harmful: int
    undecided: int
    window: str
    window_start: Millis
    window_end: Millis


class _Predicted(_Detection):
    prediction: str
    """Name of the prediction's definition."""
    model: PredictionModel
    model_version: str
    """Which form of the model, and when it was fitted."""
    feature: str | None
    """Of a conversion: what is going to be used."""
    horizon_days: int
    probability: float
    limit: float
    because: str
    """How the user stands, as a sentence."""
    reasons: dict[str, float]
    """`age_days`, `gap_days`, `active_days` → by how much (log odds) each moves the probability, beside everybody's median in it."""
    age_days: float
    """Since the first event; like the next two at most as far back as the model looks (28 days less the horizon)."""
    gap_days: float
    active_days: float
    measured: Literal["outcomes", "folds"]
    """What the quality was measured on: probabilities of `measured_at` whose horizon has passed since, or users whom the fit had not
    seen (while no day's horizon has passed)."""
    measured_at: Millis
    auc: float
    brier: float
    base_brier: float
    """That of the common share."""
    calibration_error: float
    measured_users: int
    window: WindowName
    window_start: Millis
    window_end: Millis


class PredictionCrossed(_Predicted):
    """A user's probability has been above the limit for long enough, and the model was well calibrated when it was measured last."""

    kind: Literal["prediction_crossed"] = "prediction_crossed"
    since: Millis


class PredictionCleared(_Predicted):
    """…and has come back."""

    kind: Literal["prediction_cleared"] = "prediction_cleared"
    fired_at: Millis


Detection = Annotated[
    StageEntered
    | ViralEntered
    | BandEntered
    | ThresholdCrossed
    | ThresholdCleared
    | Anomaly
    | AnomalyEnded
    | PredictionCrossed
    | PredictionCleared
    | ScheduleDue
    | VerdictReached
    | OutcomeReport,
    Field(discriminator="kind"),
]
DETECTION: TypeAdapter[Detection] = TypeAdapter(Detection)
