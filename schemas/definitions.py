"""Definitions: configuration as data, on the compacted topic `definitions`. The single source of configuration.

Every definition is written under `tenant|kind|name|version` and, as its head, under `tenant|kind|name`. A head with no
value (tombstone) retires it. The tenant `*`… is written `all`: it applies to every tenant.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    TypeAdapter,
    field_validator,
    model_validator,
)

from schemas.commands import CommandType, Priority
from schemas.conditions import All as All
from schemas.conditions import AnyOf as AnyOf
from schemas.conditions import Bounded as Bounded
from schemas.conditions import Compare as Compare
from schemas.conditions import Condition as Condition
from schemas.conditions import During as During
from schemas.conditions import Not as Not
from schemas.envelope import Millis, SubjectKind, Tenant, Word
from schemas.limits import (
    MAX_COUNT,
    MAX_LATENESS_MS,
    MAX_LISTED,
    MAX_NAME_CHARS,
    MAX_PARTS,
    MAX_SECONDS,
    MAX_TEMPLATE_CHARS,
)
from schemas.tables import Band, Stage, WindowName
from schemas.triggers import OnAbsence as OnAbsence
from schemas.triggers import OnCount as OnCount
from schemas.triggers import OnInactivity as OnInactivity
from schemas.triggers import OnSchedule as OnSchedule
from schemas.triggers import OnSequence as OnSequence
from schemas.workflows import (
    MAX_EVENTS,
    MAX_NODES,
    AnyNode,
    EventName,
    EventPattern,
    FieldPath,
    NodeId,
    SomeSpan,
    Span,
    complete,
)

FORMAT = 1
"""Of definitions as they are written; grows when a version before would misread one. Readers refuse a higher one."""
ALL_TENANTS = "all"
"""Scope of a definition that applies to every tenant."""

STEP_S: dict[WindowName, int] = {"5m": 10, "1h": 60, "1d": 3_600, "7d": 86_400, "28d": 86_400}
"""Window → seconds between two of its ends."""

DefinitionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]


class _Definition(Word):
    tenant: Tenant = ALL_TENANTS
    name: DefinitionName
    version: Annotated[int, Field(ge=1)] = 1
    effective_from: Millis = 0
    """Applies to rows that occurred at or after this time; 0: from the beginning."""
    description: Annotated[str, Field(max_length=MAX_TEMPLATE_CHARS)] = ""


# --- products ---------------------------------------------------------------------------------------------------------

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=0, le=100)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Seconds = Annotated[int, Field(ge=0, le=MAX_SECONDS)]
SomeSeconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


class HealthWeights(Word):
    """Weights of the health score's components; they need not add up to 1."""

    reliability: Weight = 0.25
    responsiveness: Weight = 0.20
    adoption: Weight = 0.20
    engagement: Weight = 0.15
    satisfaction: Weight = 0.10
    trend: Weight = 0.10


class Product(_Definition):
    """A product's settings. A product nobody defined has exactly these defaults."""

    kind: Literal["product"] = "product"
    features: Annotated[list[Name], Field(max_length=MAX_LISTED)] = Field(default_factory=list)
    """Features that always have a row, with 0 too."""
    target_users: Count | None = None
    """A fixed target size; absent: the product's active users of the window."""
    stage_window: WindowName = "7d"
    health_window: WindowName = "1d"
    min_target_users: Count = 20
    stage_borders: tuple[Share, Share] = (0.20, 0.60)
    viral_border: Share = 0.80
    viral_min_adopters: Count = 20
    margin: Share = 0.02
    """Distance past a stage border that a change needs (share)."""
    band_borders: tuple[Score, Score, Score] = (40.0, 60.0, 80.0)
    band_margin: Score = 2.0
    slo: Share = 0.999
    apdex_t_ms: Annotated[float, Field(gt=0, le=1e8)] = 300.0
    adoption_full: Annotated[float, Field(gt=0, le=1)] = 0.6
    engagement_full: Annotated[float, Field(gt=0, le=1)] = 0.4
    weights: HealthWeights = HealthWeights()
    disorder_ms: Annotated[int, Field(ge=0, le=MAX_LATENESS_MS)] = 2_000
    grace_ms: Annotated[int, Field(ge=0, le=MAX_LATENESS_MS)] = 600_000

    @field_validator("stage_borders", "band_borders")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(value):
            raise ValueError("borders rise from the lowest level to the highest")
        return value


class Segment(_Definition):
    """A named set of users, by list."""

    kind: Literal["segment"] = "segment"
    product: str
    users: list[str]


# --- sources ----------------------------------------------------------------------------------------------------------


class Source(_Definition):
    """An existing topic whose rows become events. `fields` maps our field to a path of theirs (`a.b`), `constants` fills the rest.

    A source of one tenant speaks for that tenant only; one of `all` for whichever tenant its rows name.
    """

    kind: Literal["source"] = "source"
    topic: str
    target: Literal["events.usage", "events.performance"]
    fields: Annotated[dict[str, str], Field(max_length=MAX_PARTS)]
    constants: dict[str, str] = Field(default_factory=dict)
    time_unit: Literal["rfc3339", "ms", "s"] = "rfc3339"
    id_from: Literal["field", "position"] = "field"
    """`position`: topic, partition and offset make the id."""


# --- rules -------------------------------------------------------------------------------------------------------------


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


class OnEvent(Word):
    """A single event of this topic for which `where` holds. Fires on first sight."""

    kind: Literal["event"] = "event"
    topic: Literal["events.usage", "events.performance"]
    where: Bounded = None
    subject: SubjectKind = "user"


Trigger = Annotated[
    OnStage
    | OnViral
    | OnBand
    | OnThreshold
    | OnAnomaly
    | OnEvent
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


class Rule(_Definition):
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
    owner: str = "product_manager"
    tags: list[str] = Field(default_factory=list)


Metric = Literal[
    "adoption_rate",
    "users",
    "events",
    "active_users",
    "events_per_user",
    "error_rate",
    "requests",
    "apdex",
    "latency_p95_ms",
    "latency_mean_ms",
    "health_score",
]
"""A figure of a window that thresholds and detectors look at."""


def _begins_runs(trigger: Trigger) -> Trigger:
    """Runs are begun by what is told subject by subject; ORCHESTRATE does not hear of what rules remember or are due."""
    if isinstance(trigger, (OnSchedule, OnCount, OnSequence, OnAbsence, OnInactivity)):
        raise ValueError(
            f"a workflow cannot begin with `{trigger.kind}`: begin with an event or a detection, and wait, count or look "
            "back in its nodes"
        )
    return trigger


complete({"Bounded": Bounded, "CommandTemplate": CommandTemplate})


class Workflow(_Definition):
    """Trigger + conditions + a graph of nodes, run for one subject at a time. A run keeps the version it began with."""

    kind: Literal["workflow"] = "workflow"
    id: Annotated[str, Field(max_length=MAX_NAME_CHARS)]
    """The catalogue's id, or the author's own: what command ids are made of."""
    trigger: Annotated[Trigger, AfterValidator(_begins_runs)]
    condition: Bounded = None
    """Over the trigger's facts."""
    events: Annotated[dict[EventName, EventPattern], Field(max_length=MAX_EVENTS)] = Field(default_factory=dict)
    start: NodeId
    nodes: Annotated[list[AnyNode], Field(min_length=1, max_length=MAX_NODES)]
    goals: Annotated[list[EventName], Field(max_length=MAX_EVENTS)] = Field(default_factory=list)
    """Events that end the run as a success, as they were defined when it began."""
    exits: Annotated[list[EventName], Field(max_length=MAX_EVENTS)] = Field(default_factory=list)
    """Events that end the run."""
    lasts: SomeSpan | None = None
    """Longest life of a run; where absent, every `await` needs a timeout."""
    key: Annotated[list[FieldPath], Field(max_length=8)] = Field(default_factory=list)
    """Fields of the trigger: runs of one subject that differ in them do not know each other (two carts)."""
    reentry: Literal["skip", "restart", "parallel", "once"] = "skip"
    """What a trigger does while a run of the same subject and key goes on; `once`: a subject never enters a second time."""
    reentry_after: Span = 0
    """Shortest time from one entry to the next."""
    owner: str = "product_manager"
    tags: list[str] = Field(default_factory=list)


class Threshold(_Definition):
    """A figure of a window against a limit."""

    kind: Literal["threshold"] = "threshold"
    product: str | None = None
    """Absent: every product of the tenant."""
    metric: Metric
    of: str | None = None
    """The feature or `service:x`; absent: each of them (adoption_rate, users) or the product's total."""
    window: WindowName = "5m"
    op: Literal[">", ">=", "<", "<="]
    limit: Finite
    clear_limit: Finite | None = None
    """Hysteresis: clears only past this; absent: the limit itself."""
    for_s: Seconds = 0
    keep_firing_for_s: Seconds = 0
    on_no_data: Literal["keep", "ok", "alert"] = "keep"


DetectorName = Literal["level", "daily", "weekly"]


class Detector(_Definition):
    """A figure of a window against its own past."""

    kind: Literal["detector"] = "detector"
    product: str | None = None
    """Absent: every product of the tenant."""
    detector: DetectorName = "level"
    """`level`: against its level; `daily`, `weekly`: against what the same hour (UTC) of the day or week usually brings."""
    metric: Metric
    of: str | None = None
    """As of a threshold."""
    window: WindowName = "5m"
    every_s: Annotated[int, Field(ge=10, le=7 * 86_400)] | None = None
    """Time between two readings, a multiple of the window's step; absent: that of the rows that tables keep (5m: 300, 1h: 60,
    1d: 3600, 7d and 28d: 86400)."""
    learn: Annotated[int, Field(ge=10, le=100_000)] = 100
    """Readings before anything is detected."""
    limit: Annotated[float, Field(ge=1.7, le=12)] = 2.7
    """Score from which a reading is an anomaly: 2.7 is one reading in five hundred, 3 one in a thousand, by the figure's own past."""
    clear_limit: Annotated[float, Field(ge=0, le=12)] | None = None
    direction: Literal["up", "down", "both"] = "both"
    for_s: Seconds = 0
    keep_firing_for_s: Seconds = 3_600
    """How long readings must be ordinary before the anomaly is over; another begins only after that."""

    @model_validator(mode="after")
    def _regular(self) -> Detector:
        step = STEP_S[self.window]
        if self.every_s is not None and self.every_s % step:
            raise ValueError(f"every_s: windows of {self.window} end every {step} s; give a multiple of that")
        return self


class Connection(_Definition):
    """A configured integration. New ones are sandboxed: delivered to the built-in sink until enabled."""

    kind: Literal["connection"] = "connection"
    integration: str
    config: dict[str, JsonValue]
    """The integration's own config. Secrets are references: `{"env": "NAME"}` or `{"file": "path"}`."""
    enabled: bool = False
    domains: list[str] = Field(default_factory=list)
    """Commands of these domains; empty: all."""
    types: list[str] = Field(default_factory=list)
    """Command types, with a trailing `*` as prefix; empty: all."""
    min_priority: Priority = "low"
    rate_per_s: Annotated[float, Field(gt=0, le=1e6)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    deadline_s: Annotated[float, Field(gt=0, le=120)] | None = None
    """Longest that one attempt may take; absent: the integration's own timeout."""
    max_attempts: Annotated[int, Field(ge=1, le=1_000)] = 8
    max_age_s: SomeSeconds = 86_400


class Pause(_Definition):
    """Stops acting, at once, until retired: everything of a tenant, one rule, or one connection. Its name is `scope:name`."""

    kind: Literal["pause"] = "pause"
    scope: Literal["tenant", "rule", "connection"]
    of: str
    by: str = ""


class Silence(_Definition):
    """Commands that match are not acted on between two broker times, because a person asked so. Empty lists match all."""

    kind: Literal["silence"] = "silence"
    types: list[str] = Field(default_factory=list)
    """Command types, with a trailing `*` as prefix."""
    rules: list[str] = Field(default_factory=list)
    subjects: list[str] = Field(default_factory=list)
    """`kind:id`, with a trailing `*` as prefix."""
    starts_at: Millis = 0
    ends_at: Millis
    by: str = ""


class Forgotten(_Definition):
    """A person who is to be forgotten, for good. Its name is a hash of the subject keyed by `salt`, so it keeps no name; it is the
    record of who asked, and when, too.
    """

    kind: Literal["forgotten"] = "forgotten"
    of: Literal["user", "contact"]
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """256 random bits, the same for all of a tenant's records."""
    asked_at: Millis
    by: str = ""


class ApiKey(_Definition):
    """An API key, hashed. The key itself is shown once, when made."""

    kind: Literal["api_key"] = "api_key"
    hash: str
    """Hex SHA-256 of the key (keys are 256 random bits, so a slow hash adds nothing)."""
    role: Literal["product_director", "product_manager", "operations", "development", "quality", "read_only"]
    created_at: Millis
    expires_at: Millis | None = None
    """Refused from this time on; absent: until it is revoked."""


Definition = Annotated[
    Product
    | Segment
    | Source
    | Rule
    | Workflow
    | Threshold
    | Detector
    | Connection
    | Pause
    | Silence
    | Forgotten
    | ApiKey,
    Field(discriminator="kind"),
]
DEFINITION: TypeAdapter[Definition] = TypeAdapter(Definition)


class SecretReference(Word):
    """Where a secret is: an environment variable or a file. Never its value."""

    env: str | None = None
    file: str | None = None

    @field_validator("file")
    @classmethod
    def _one(cls, value: str | None) -> str | None:
        return value


Secret = SecretStr


def head_key(definition: Definition) -> bytes:
    """`tenant|kind|name`: the newest version stands here."""
    return f"{definition.tenant}|{definition.kind}|{definition.name}".encode()


def version_key(definition: Definition) -> bytes:
    """`tenant|kind|name|version`: this version stands here for good."""
    return f"{definition.tenant}|{definition.kind}|{definition.name}|{definition.version}".encode()
