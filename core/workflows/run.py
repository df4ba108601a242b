"""A run: small plain data that a checkpoint can hold. Everything that its future depends on stands in it.

A run consists of tokens, each at one node, waiting. Bodies (of loops, for-each, parallels, calls) are frames on a token's
stack; the path of frames and the node name a step of the run for ever: `loop:2/send`. No path is passed twice, so what is
derived from it (command ids) is never derived twice.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from core.workflows.jobs import Approval, Event, Person, Receipt

GOALS: Final = "^"
"""Under this name a run that has moved is pinned to the version that it entered with: its goals are that one's."""

MOST_HELD: Final = 1_000
"""Of what comes while it waits for a delivery; then its time goes on without it."""


class Frame(msgspec.Struct, array_like=True):
    """A body that a token is in."""

    node: str
    """The node that owns the body."""
    turn: int
    """Of a loop from 1, of a for-each and of a parallel's branches from 0; 0 of a call."""
    since: int
    """Event time at which the owner was entered."""
    graph: str | None = None
    """Only of a call: the workflow whose nodes follow."""


class Token(msgspec.Struct, array_like=True):
    """A place in the graph that waits."""

    id: int
    node: str
    since: int
    """Event time at which the node was entered."""
    due: int | None = None
    """When it is to be woken; None: by a job only."""
    stack: list[Frame] = []
    """Outermost body first."""
    memo: dict[str, Any] = {}
    """What the node wants to remember while it waits."""

    def graph(self) -> str:
        """The workflow whose node it stands at; "" for the run's own."""
        return next((f.graph for f in reversed(self.stack) if f.graph is not None), "") if self.stack else ""

    def path(self) -> str:
        """The step it is at."""
        return path_of(self.stack, self.node)


class Seen(msgspec.Struct, array_like=True):
    """Events of one name."""

    count: int
    at: int
    """When the newest of them occurred."""
    kept: dict[str, Any]
    used: bool
    """Whether a wait has been ended by the newest: a look back does not count it again."""


class Done(msgspec.Struct, array_like=True):
    """A command that can be taken back."""

    node: str
    stack: list[Frame]
    command: str


class Run(msgspec.Struct, array_like=True):
    """One execution for one subject."""

    id: str
    tenant: str
    product: str
    workflow: str
    """Name of the definition."""
    pins: dict[str, int]
    """Versions: of the workflow under "", of those it may call under their names."""
    subject: str
    cause: str
    key: str
    """Values of the definition's `key` fields, as JSON."""
    began: int
    clock: int
    """Event time up to which the run has come."""
    facts: dict[str, Any]
    """The trigger's fields that the definition looks at."""
    status: str = "running"
    """running · completed · exited · goal · expired · cancelled · failed."""
    outcome: str = ""
    tokens: list[Token] = []
    joins: dict[str, int] = {}
    """Path of a parallel → branches of it that have ended."""
    seen: dict[str, Seen] = {}
    """Event name (behind `workflow/` for that of a called one) → what came."""
    out: dict[str, dict[str, Any]] = {}
    """Node → what it left for conditions and templates."""
    done: list[Done] = []
    steps: int = 0
    """Nodes entered."""
    tokens_made: int = 0
    jobs: int = 0
    """Jobs taken: the number of the newest record of its history."""
    ends_at: int | None = None
    traceparent: str | None = None
    paused: int | None = None
    """Since when it stands still; None: it goes on."""
    held: list[Receipt | Approval | Event | Person] = []
    """What came while it stood still, or had to wait for a delivery of the present, and is taken when it goes on."""
    offered: int = 0
    """The newest version that it was to move to, and did not fit."""
    passed: list[str] = []
    """Nodes of versions before its present one that it may have come through."""
    shared: list[str] = []
    """Those of `pins` that are everybody's definitions; the others are the tenant's own."""
    person: dict[str, Any] = {}
    """What the subject's profile says of what the definition asks for."""
    past: bool = False
    """It began by what was told a day or more after it had happened: its time passes as that of what is sent, its commands are
    delivered in the present. So they take no time of the run's: until the receipt is there, nothing else happens to it.
    """
    names: list[str] = []
    """Subjects that it was about before they were aliased, the one that it began with first."""

    @property
    def origin(self) -> str:
        """The subject that it began with. What is derived from its name (command ids, arms of a split) is derived from this one."""
        return self.names[0] if self.names else self.subject

    @property
    def delivering(self) -> bool:
        """Whether its time waits for a delivery of the present."""
        return self.past and any("command" in t.memo and "left" not in t.memo for t in self.tokens)

    @property
    def knows(self) -> dict[str, Any]:
        """What it has been told last of the subject's profile."""
        return next((job.facts for job in reversed(self.held) if isinstance(job, Person)), self.person)

    @property
    def due(self) -> int | None:
        """When the run is to be woken at the latest; None: by a job only."""
        if self.paused is not None or self.delivering:
            return None
        times = [t.due for t in self.tokens if t.due is not None]
        if self.ends_at is not None and self.status == "running":
            times.append(self.ends_at)
        return min(times, default=None)

    @property
    def places(self) -> list[str]:
        """Where it waits: paths without turns, each once."""
        return sorted({"/".join([*(f.node for f in t.stack), t.node]) for t in self.tokens})

    @property
    def running(self) -> bool:
        """Whether anything can still come of it."""
        return self.status == "running"


def path_of(stack: list[Frame], node: str) -> str:
    """The step's name: frames from the outside in, and the node."""
    return "/".join([*[f"{f.node}:{f.turn}" for f in stack], node]) if stack else node


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Run).decode


def pack(run: Run) -> bytes:
    """The run as MessagePack."""
    return _encode(run)


def unpack(value: bytes) -> Run:
    """The run that was packed. Raises `msgspec.MsgspecError` where it is none."""
    return _decode(value)
