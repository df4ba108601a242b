"""Workflows as they are defined: a trigger and a graph of nodes (`schemas.workflows`), run for one subject at a time."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from schemas.conditions import Bounded
from schemas.described import Described
from schemas.limits import MAX_NAME_CHARS
from schemas.rules import CommandTemplate, Trigger
from schemas.triggers import OnAbsence, OnCount, OnInactivity, OnSchedule, OnSequence
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


def _begins_runs(trigger: Trigger) -> Trigger:
    """Runs are begun by what is told subject by subject; ORCHESTRATE does not hear of what rules remember or are due."""
    if isinstance(trigger, (OnSchedule, OnCount, OnSequence, OnAbsence, OnInactivity)):
        raise ValueError(
            f"a workflow cannot begin with `{trigger.kind}`: begin with an event or a detection, and wait, count or look "
            "back in its nodes"
        )
    return trigger


MAX_EARLIER: Final = 2 * MAX_EVENTS
"""Patterns of versions before that are still listened to; the oldest beyond go."""

complete({"Bounded": Bounded, "CommandTemplate": CommandTemplate})


class Workflow(Described):
    """Trigger + conditions + a graph of nodes, run for one subject at a time. Each run is pinned to a version; what a new one does to
    runs that go on, `publish` says.
    """

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
    publish: Literal["pin", "follow", "drain", "migrate"] = "pin"
    """What publishing this version does to the runs of versions before: they keep theirs (`pin`); they go on at the same node of this
    one (`follow`); they keep theirs, and nobody of the tenant enters before they have ended (`drain`); they go on at the nodes
    that `migrate` names, or at the same (`migrate`)."""
    migrate: Annotated[dict[NodeId, NodeId], Field(max_length=MAX_NODES)] = Field(default_factory=dict)
    """Only with `publish: migrate`: node of versions before → node of this one."""
    earlier: Annotated[list[EventPattern], Field(max_length=MAX_EARLIER)] = Field(default_factory=list)
    """Events that only runs of versions before wait for. Publishing fills it in."""
    asked_before: bool = False
    """Whether runs of versions before may look at profiles. Publishing fills it in."""
    retired: Literal["finish", "cancel", "undo"] | None = None
    """Out of force: it begins no runs. Those that go on, of whatever version, go on to their end (`finish`); they end now (`cancel`);
    they take back what has an undo, and end now (`undo`)."""
    mode: Literal["act", "shadow"] = "act"
    """`shadow`: nothing is sent; what would have been is recorded (a suppressed receipt, reason `shadow`), and a run goes on as if it
    had been delivered."""
    owner: str = "product_manager"
    tags: list[str] = Field(default_factory=list)
