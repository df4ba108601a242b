"""Rules: what triggers them, and what they order."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Field, JsonValue, model_validator

from schemas.commands import CommandType, Priority
from schemas.conditions import Bounded
from schemas.described import Count, Described, Seconds, SomeSeconds
from schemas.envelope import SubjectKind, Word
from schemas.events import EventsTopic
from schemas.limits import MAX_NAME_CHARS, MAX_TEMPLATE_CHARS
from schemas.outcomes import MAX_HOLDOUT, PEOPLE, Figure, Measure, Verdict, refused_holdout
from schemas.tables import Band, Stage
from schemas.triggers import OnAbsence, OnCount, OnInactivity, OnSchedule, OnSequence


class OnStage(Word):
    """A feature entered one of these stages."""

    kind: Literal["stage"] = "stage"
    stages: list[Stage]


class OnViral(Word):
    """A feature became viral."""

    kind: Literal["viral"] = "viral"


class OnBand(Word):
    """A product's health entered one of these bands."""

    kind: Literal["band"] = "band"
    bands: list[Band]


class OnThreshold(Word):
    """A threshold crossed (or, with `edge: cleared`, cleared)."""

    kind: Literal["threshold"] = "threshold"
    threshold: str
    edge: Literal["crossed", "cleared"] = "crossed"


class OnAnomaly(Word):
    """A detector found an anomaly (or, with `edge: ended`, its end)."""

    kind: Literal["anomaly"] = "anomaly"
    detector: str
    """Name of the detector's definition."""
    edge: Literal["began", "ended"] = "began"


class OnPrediction(Word):
    """A user's probability crossed the limit of a prediction (or, with `edge: cleared`, came back)."""

    kind: Literal["prediction"] = "prediction"
    prediction: str
    """Name of the prediction's definition."""
    edge: Literal["crossed", "cleared"] = "crossed"


class OnEvent(Word):
    """A single event of this topic for which `where` holds. Fires on first sight."""

    kind: Literal["event"] = "event"
    topic: EventsTopic
    where: Bounded = None
    subject: SubjectKind = "user"


class OnVerdict(Word):
    """A rule's outcome got one of these verdicts."""

    kind: Literal["verdict"] = "verdict"
    verdicts: Annotated[list[Verdict], Field(min_length=1)]


class OnReport(Word):
    """The report on outcomes of a product is due: each Monday (of the week before), or each first of a month, 00:00 UTC."""

    kind: Literal["report"] = "report"
    every: Literal["week", "month"] = "week"


class OnSegment(Word):
    """A subject entered (or, with `edge: left`, left) a live segment."""

    kind: Literal["segment"] = "segment"
    segment: Annotated[str, Field(max_length=MAX_NAME_CHARS)]
    edge: Literal["entered", "left"] = "entered"


Trigger = Annotated[
    OnStage
    | OnViral
    | OnBand
    | OnThreshold
    | OnAnomaly
    | OnPrediction
    | OnEvent
    | OnSegment
    | OnSchedule
    | OnCount
    | OnSequence
    | OnAbsence
    | OnInactivity
    | OnVerdict
    | OnReport,
    Field(discriminator="kind"),
]


def about_of(trigger: Trigger) -> SubjectKind | None:
    """The kind of subject that the trigger is about; None where it is a product, feature or service, or of several kinds."""
    if isinstance(trigger, OnPrediction):
        return "user"
    if isinstance(trigger, (OnEvent, OnCount, OnSequence, OnAbsence, OnInactivity)):
        return trigger.subject
    return None


class CommandTemplate(Word):
    """What to order. Strings are Jinja templates over the trigger's facts; a whole-string `{{ x }}` keeps x's type."""

    type: CommandType
    title: Annotated[str, Field(max_length=MAX_TEMPLATE_CHARS)]
    text: Annotated[str, Field(max_length=MAX_TEMPLATE_CHARS)]
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    segment: Literal["adopters", "non_adopters", "active_users"] | None = None
    """Whom it is for, where it is for many."""


def _with_when(schema: dict[str, Any]) -> None:
    """The condition's other name, which JSON Schema of an alias does not tell."""
    schema["properties"]["when"] = {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "`condition`, as CEL.",
    }


class Rule(Described):
    """Trigger + conditions + command."""

    model_config = ConfigDict(json_schema_extra=_with_when)

    kind: Literal["rule"] = "rule"
    id: Annotated[str, Field(max_length=MAX_NAME_CHARS)]
    """The catalogue's id, or the author's own."""
    trigger: Trigger
    condition: Annotated[Bounded, Field(validation_alias=AliasChoices("condition", "when"))] = None
    """Over the trigger's facts (the detection's fields, or the event's). `when` is another name of it, for CEL text."""
    command: CommandTemplate
    priority: Priority = "normal"
    cooldown_s: Seconds = 0
    """Event-time bucket per subject: one command a bucket."""
    ceiling_per_hour: Count = 100
    """Most commands an hour of event time, per tenant and product; what is over it is suppressed and counted."""
    expires_after_s: SomeSeconds = 86_400
    mode: Literal["act", "shadow"] = "act"
    """`shadow`: decides and records what it would have sent (a suppressed receipt, reason `shadow`), and sends nothing."""
    owner: str = "product_manager"
    tags: list[str] = Field(default_factory=list)
    holdout: Annotated[float, Field(ge=0, le=MAX_HOLDOUT)] = 0
    """Share of subjects that the rule leaves alone, always the same ones: what it is compared with. Users, contacts, accounts only."""
    outcome: Measure | None = None
    """How it is judged whether the rule helps."""
    level: Annotated[int, Field(ge=1, le=3)] | None = None
    """Of an intervention: 1 by itself, 2 by the product manager, 3 by the executives."""
    transactional: bool = False
    """The subject asked for it, or is owed it."""

    late: Literal["drop", "revise", "compensate"] = "drop"
    """What is done when late data change what a command was decided on: nothing; the command again, corrected; its `undo`."""
    undo: CommandTemplate | None = None
    """The command that takes it back; its templates find the original's id as `command`."""

    @model_validator(mode="after")
    def _minds_late_data(self) -> Rule:
        if self.late != "drop" and not isinstance(self.trigger, (OnStage, OnThreshold, OnAbsence, OnInactivity)):
            raise ValueError(
                f"late: what a rule on `{self.trigger.kind}` was decided on is never corrected; late data matter to stage, "
                "threshold, absence and inactivity"
            )
        if self.late == "compensate" and self.undo is None:
            raise ValueError("late: compensating needs the command's `undo`")
        return self

    @model_validator(mode="after")
    def _measured(self) -> Rule:
        about: str = about_of(self.trigger) or "product or feature"
        if self.holdout:
            bands = list(getattr(self.trigger, "bands", []))
            if why := refused_holdout(self.trigger.kind, about, bands, self.level, self.transactional):
                raise ValueError(f"holdout: {why}")
        if self.outcome is not None and isinstance(self.outcome.metric, Figure) == (about in PEOPLE):
            raise ValueError(
                f"outcome.metric: a rule about a {about} is measured by "
                + (
                    "a conversion of each, beside those held out"
                    if about in PEOPLE
                    else "a figure, beside the time before"
                )
            )
        return self
