"""Rules: what triggers them, and what they order."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Field, JsonValue

from schemas.commands import CommandType, Priority
from schemas.conditions import Bounded
from schemas.described import Count, Described, Seconds, SomeSeconds
from schemas.envelope import SubjectKind, Word
from schemas.events import EventsTopic
from schemas.limits import MAX_NAME_CHARS, MAX_TEMPLATE_CHARS
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
    | OnInactivity,
    Field(discriminator="kind"),
]


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
