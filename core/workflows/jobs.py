"""Jobs: what is put into `step`. Orders and notes: what comes out. All plain data, so that a history can be kept and replayed."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.commands import Command


class Start(msgspec.Struct, frozen=True, tag="start", tag_field="job", omit_defaults=True):
    """A trigger: the run begins."""

    at: int
    """Event time."""
    cause: str
    subject: str
    product: str
    data: dict[str, Any]
    recent: list[Event] = []
    """Named events of the subject just before, oldest first: for waits that look back."""
    traceparent: str | None = None
    person: dict[str, Any] = {}
    """What the subject's profile says then of what the workflow asks for."""
    past: bool = False
    """It was told a day or more after it happened."""


class Event(msgspec.Struct, frozen=True, tag="event", tag_field="job", omit_defaults=True):
    """Something happened to the subject."""

    at: int
    id: str
    topic: str
    data: dict[str, Any]


class Person(msgspec.Struct, frozen=True, tag="person", tag_field="job"):
    """The subject's profile has changed in what the run asks for."""

    at: int
    facts: dict[str, Any]
    """All of it, as it is now."""


class Timer(msgspec.Struct, frozen=True, tag="timer", tag_field="job"):
    """Time has come as far as `at`."""

    at: int


class Receipt(msgspec.Struct, frozen=True, tag="receipt", tag_field="job", omit_defaults=True):
    """What became of a command, for good."""

    at: int
    command: str
    status: str
    """delivered · rejected · suppressed."""
    reason: str | None = None


class Approval(msgspec.Struct, frozen=True, tag="approval", tag_field="job"):
    """A person's answer to the step that `Approve` named as `answer_as`."""

    at: int
    step: str
    approved: bool
    by: str


class Cancel(msgspec.Struct, frozen=True, tag="cancel", tag_field="job", omit_defaults=True):
    """The run is to end now. With `compensate` it takes its commands back first."""

    at: int
    by: str
    compensate: bool = False


class Pause(msgspec.Struct, frozen=True, tag="pause", tag_field="job"):
    """The run is to stand still."""

    at: int
    by: str


class Resume(msgspec.Struct, frozen=True, tag="resume", tag_field="job"):
    """The run is to go on: what came and what ran out meanwhile is taken now."""

    at: int
    by: str


class Move(msgspec.Struct, frozen=True, tag="move", tag_field="job", omit_defaults=True):
    """The run is to go on in another version, where it fits there."""

    at: int
    by: str
    version: int
    pins: dict[str, int]
    """As a run that began now would have them."""
    nodes: dict[str, str] = {}
    """Node of the version before → node of this one; those that are not named keep their id."""
    shared: list[str] = []
    """Those of `pins` that are everybody's."""


class Renamed(msgspec.Struct, frozen=True, tag="renamed", tag_field="job"):
    """The subject is known by another name: the run is about that one from now on."""

    at: int
    """When it was aliased."""
    subject: str


Job = Start | Event | Person | Timer | Receipt | Approval | Cancel | Pause | Resume | Move | Renamed


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a run's activity log."""

    at: int
    """Event time."""
    step: str
    """The path of the node; "" for what concerns the whole run."""
    what: str
    """began · entered · waits · chose · exposed · ordered · undid · event · late · person · answered · delivered · retried · skipped ·
    failed · joined · moved · kept · paused · held · resumed · renamed · ended."""
    detail: dict[str, Any] = {}


class Order(msgspec.Struct, frozen=True):
    """A command to be given."""

    step: str
    command: Command


Effect = Order | Note


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a run's history (topic `runs`): a job, and what came of it. A run is the fold of its jobs in order of `seq`."""

    run: str
    tenant: str
    subject: str
    workflow: str
    versions: dict[str, int]
    seq: int
    now: int
    """The clock that `step` was given; only `expires_at` of commands depends on it."""
    job: Job
    notes: list[Note]
    commands: list[str]
    status: str
    outcome: str = ""
    product: str = ""
    began: int = 0
    """Event time of its start; 0 in records of before 0.1.0."""
    places: list[str] = []
    """Where it waits after the job: paths without turns, in order."""
    paused: bool = False
    shared: list[str] = []
    """Those of `versions` that are everybody's definitions, not the tenant's own."""
    names: list[str] = []
    """Subjects that it was about before, the one that it began with first."""
