"""Workflows' words: the kinds of nodes, what they wait for, the events they know. `schemas.definitions.Workflow` holds them.

A workflow is a graph of nodes; every arrow is written down as the id of the node it leads to. An arrow that is absent ends the
path: the run is completed, or, inside a body (of a loop, for-each, parallel or call), the body is. Conditions and templates
look at the run's facts: the trigger's fields, `seen.NAME` (how often an event of that name came), `last.NAME.FIELD`,
`out.NODE.FIELD`, and inside bodies `item`, `index` and `turn`.

The classes name words of `schemas.definitions`, which completes them (`complete`): the two know each other, one of them by name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from schemas.envelope import Word
from schemas.events import EventsTopic
from schemas.limits import MAX_NAME_CHARS, MAX_SECONDS

if TYPE_CHECKING:
    from schemas.definitions import Bounded, CommandTemplate

MAX_NODES: Final = 2_000
"""Of one workflow."""
MAX_ARROWS: Final = 100
"""Of one node."""
MAX_EVENTS: Final = 50
"""Named events of one workflow."""
MAX_TURNS: Final = 1_000
MAX_RUN_STEPS: Final = 20_000
"""Nodes that one run may enter, all turns counted; beyond it the run fails."""
MAX_CALL_DEPTH: Final = 8
"""Workflows within workflows."""

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN: Final = re.compile(r"(?:\d+[wdhms])+")


def span(value: Any) -> Any:
    """`2h`, `1d12h`, `90s` → seconds; a number of seconds stays one."""
    if isinstance(value, str):
        if not _SPAN.fullmatch(value):
            raise ValueError("a time span is a number of seconds, or parts like 2h, 1d12h, 30m (w d h m s)")
        return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([wdhms])", value))
    return value


Span = Annotated[int, BeforeValidator(span), Field(ge=0, le=MAX_SECONDS)]
"""Seconds; written as a number, or as `1d12h`."""
SomeSpan = Annotated[int, BeforeValidator(span), Field(ge=1, le=MAX_SECONDS)]
NodeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
EventName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
FieldPath = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""A local time of day, `09:30`."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Zone = Annotated[str, Field(max_length=64)]
"""IANA name, e.g. Europe/Paris."""
WORKDAYS: Final[list[Day]] = ["mon", "tue", "wed", "thu", "fri"]


class EventPattern(Word):
    """Events of the run's own subject that the workflow knows by a name."""

    topic: EventsTopic | Literal["detections"] = "events.usage"
    """`detections`: findings about the run's subject (a stage or band entered, a threshold cleared …)."""
    where: Bounded = None
    same: Annotated[list[FieldPath], Field(max_length=8)] = Field(default_factory=list)
    """Fields that must equal the trigger's field of that name (the same cart)."""
    keep: Annotated[list[FieldPath], Field(max_length=8)] = Field(default_factory=list)
    """Fields of the newest such event that conditions and templates find under `last.NAME`."""


class Node(Word):
    """What every node has."""

    id: NodeId
    title: Annotated[str, Field(max_length=MAX_NAME_CHARS)] = ""


# --- acting -----------------------------------------------------------------------------------------------------------


class Retry(Word):
    """Tries of one step, the first included; the pauses between them double."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 1
    pause: Span = 60


class Act(Node):
    """Gives a command. With `wait: delivery` the run goes on when its receipt is there, and `retry` counts."""

    kind: Literal["act"] = "act"
    command: CommandTemplate
    priority: Literal["urgent", "normal", "low"] = "normal"
    expires_after: SomeSpan = 86_400
    wait: Literal["nothing", "delivery"] = "nothing"
    timeout: SomeSpan = 86_400
    """Of one try, with `wait: delivery`."""
    retry: Retry = Retry()
    on_error: Literal["fail", "continue"] = "fail"
    """What the run does when the step failed for good and `failed` leads nowhere."""
    failed: NodeId | None = None
    undo: CommandTemplate | None = None
    """The command that takes it back, given by `compensate`; its templates find the original's id as `command`."""
    next: NodeId | None = None


class Approve(Node):
    """Asks a person, by a command, and waits for the answer."""

    kind: Literal["approve"] = "approve"
    request: CommandTemplate
    """Its templates find `assignee` and `answer_as`, the step that the answer names."""
    assignee: Annotated[str, Field(max_length=MAX_NAME_CHARS)]
    delegate: Annotated[str, Field(max_length=MAX_NAME_CHARS)] | None = None
    delegate_after: SomeSpan | None = None
    """The delegate is asked too when the assignee has not answered by then."""
    deadline: SomeSpan
    approved: NodeId | None = None
    rejected: NodeId | None = None
    expired: NodeId | None = None


class Compensate(Node):
    """Takes back, newest first, every command of this run that has an `undo`."""

    kind: Literal["compensate"] = "compensate"
    next: NodeId | None = None


class Exit(Node):
    """Ends the run, whatever else of it is still waiting; in a called workflow, that call."""

    kind: Literal["exit"] = "exit"
    outcome: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")] = "exited"


# --- choosing ---------------------------------------------------------------------------------------------------------


class Path(Word):
    """One way out of a branch."""

    when: Bounded
    next: NodeId | None = None

    @field_validator("when")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("a path needs a condition; what nothing holds for goes to `otherwise`")
        return value


class Branch(Node):
    """Takes the first path whose condition holds."""

    kind: Literal["branch"] = "branch"
    paths: Annotated[list[Path], Field(min_length=1, max_length=MAX_ARROWS)]
    otherwise: NodeId | None = None


class Arm(Word):
    """A variant and its weight."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    next: NodeId | None = None


class Split(Node):
    """Sends each subject down one arm, always the same, by a keyed hash; `winner` sends all down one."""

    kind: Literal["split"] = "split"
    arms: Annotated[list[Arm], Field(min_length=2, max_length=20)]
    winner: str | None = None
    salt: Annotated[str, Field(max_length=64)] = ""
    """Another one draws the arms anew; without, the node's id is it."""


class Factor(Word):
    """Points that a condition is worth."""

    when: Bounded
    points: Annotated[float, Field(allow_inf_nan=False)]


class Decide(Node):
    """A score against two borders: high at or above the upper, low at or below the lower, unsure between them and without a score."""

    kind: Literal["decide"] = "decide"
    of: FieldPath | None = None
    """A fact that is the score (a probability); absent: `base` and the points of the factors that hold."""
    base: Annotated[float, Field(allow_inf_nan=False)] = 0
    factors: Annotated[list[Factor], Field(max_length=MAX_ARROWS)] = Field(default_factory=list)
    high_from: Annotated[float, Field(allow_inf_nan=False)]
    low_to: Annotated[float, Field(allow_inf_nan=False)]
    high: NodeId | None = None
    low: NodeId | None = None
    unsure: NodeId | None = None


# --- waiting ----------------------------------------------------------------------------------------------------------


class Lasting(Word):
    """So long."""

    kind: Literal["span"] = "span"
    span: Span


class LocalTime(Word):
    """The next time that the clock of the zone shows this; a time that the clocks skip is taken an hour later."""

    kind: Literal["clock"] = "clock"
    at: Clock
    days: Annotated[list[Day], Field(max_length=7)] = Field(default_factory=list)
    """Empty: every day."""
    zone: Zone = "UTC"
    zone_field: FieldPath | None = None
    """A fact that holds the subject's zone; `zone` where it is none."""


class DateField(Word):
    """A date among the facts (milliseconds, or RFC 3339), and so long after (or before) it. What is past goes on at once."""

    kind: Literal["date"] = "date"
    field: FieldPath
    offset: Annotated[int, Field(ge=-MAX_SECONDS, le=MAX_SECONDS)] = 0
    """Seconds; negative: before."""
    zone: Zone = "UTC"
    """Of dates that name none."""


class OpenHours(Word):
    """Business hours: goes on at once within them, else when they begin."""

    kind: Literal["hours"] = "hours"
    opens: Clock = "09:00"
    closes: Clock = "17:00"
    """Not included; earlier than `opens`: on the next day."""
    days: Annotated[list[Day], Field(min_length=1, max_length=7)] = Field(default_factory=lambda: list(WORKDAYS))
    holidays: Annotated[list[Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]], Field(max_length=400)] = Field(
        default_factory=list
    )
    zone: Zone = "UTC"
    zone_field: FieldPath | None = None


Until = Annotated[Lasting | LocalTime | DateField | OpenHours, Field(discriminator="kind")]


class Wait(Node):
    """Waits for a time."""

    kind: Literal["wait"] = "wait"
    until: Until
    missing: NodeId | None = None
    """Where a run goes whose facts hold no such date; absent: it fails."""
    next: NodeId | None = None


class Await(Node):
    """Waits for one of these events, or for a condition over the facts, until a timeout.

    An event counts that occurred at or after the wait began (less `look_back`) and not after its end, whenever it is read.
    """

    kind: Literal["await"] = "await"
    events: Annotated[dict[EventName, NodeId | None], Field(max_length=MAX_ARROWS)] = Field(default_factory=dict)
    """Event → where to go. Of several at once the first of the list."""
    when: Bounded = None
    met: NodeId | None = None
    """Where to go when `when` holds; looked at when the wait begins and after each named event."""
    timeout: SomeSpan | None = None
    timed_out: NodeId | None = None
    look_back: Span = 0


# --- bodies -----------------------------------------------------------------------------------------------------------


class Loop(Node):
    """Runs its body again and again, at most `max_turns` times and no turn begun after `lasts`."""

    kind: Literal["loop"] = "loop"
    body: NodeId
    max_turns: Annotated[int, Field(ge=1, le=MAX_TURNS)]
    lasts: SomeSpan | None = None
    repeat: Bounded = None
    """Asked before each turn; absent: always."""
    next: NodeId | None = None
    exhausted: NodeId | None = None
    """Where it goes when a bound ended it; absent: `next`."""


class Each(Node):
    """Runs its body once for each item of a list among the trigger's facts, one after the other."""

    kind: Literal["each"] = "each"
    items: FieldPath
    max_items: Annotated[int, Field(ge=1, le=MAX_TURNS)] = 100
    """Items beyond are left out, and noted."""
    body: NodeId
    next: NodeId | None = None


class Parallel(Node):
    """Runs its branches side by side; goes on when so many have ended, and drops the others."""

    kind: Literal["parallel"] = "parallel"
    branches: Annotated[list[NodeId], Field(min_length=2, max_length=20)]
    join: Literal["all", "any"] | Annotated[int, Field(ge=1, le=20)] = "all"
    next: NodeId | None = None


class Call(Node):
    """Runs another workflow's nodes on this run's facts, at the version in force when the run began; its trigger plays no part."""

    kind: Literal["call"] = "call"
    workflow: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    next: NodeId | None = None


AnyNode = Annotated[
    Act | Approve | Compensate | Exit | Branch | Split | Decide | Wait | Await | Loop | Each | Parallel | Call,
    Field(discriminator="kind"),
]
NODES: Final[tuple[type[Node], ...]] = (
    *(Act, Approve, Compensate, Exit),
    *(Branch, Split, Decide),
    *(Wait, Await),
    *(Loop, Each, Parallel, Call),
)
"""The registry: every kind of node, once."""


def complete(words: dict[str, Any]) -> None:
    """Resolves the names of `schemas.definitions` in the classes above."""
    models: tuple[type[Word], ...] = (EventPattern, Path, Factor, *NODES)
    for model in models:
        model.model_rebuild(_types_namespace={**globals(), **words})
