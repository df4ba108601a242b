"""Rooms: the few handles an agent is given, as protocols; `app` fills them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import JsonValue

from core.archive import Chunk
from core.batch import Batch
from core.decide.attic import Attic
from core.definitions import Catalogue
from core.effects import DeadLetter, Effect
from core.forgetting import Forgetting
from core.public import Row
from core.task import Task, TaskSpec
from integrations.base import Request, Response
from schemas.topics import PARTITIONS


class Wires(Protocol):
    """What `transport` offers an agent."""

    def channel(self, app: Any, spec: TaskSpec) -> Any:
        """Registers the spec's tasks and gives the Faust channel of its topics' batches."""

    def batches(self, stream: Any) -> AsyncIterator[tuple[Task, Batch]]:
        """Each batch with the recovered task of its partition."""

    def step(self, task: Task, batch: Batch) -> list[Effect] | None:
        """The effects of `task.step(batch)`; None where it raised: then nothing may be performed, and the rows come again."""

    async def work(self, task: Task, batch: Batch) -> None:
        """`step` and `perform`, for tasks that need nothing in between. Others have turns while a step takes long."""

    def perform(self, task: Task, batch: Batch, effects: Iterable[Effect]) -> None:
        """Holds the effects for the task's next checkpoint and marks the batch finished."""

    async def set_aside(self, task: Task, letters: Sequence[DeadLetter]) -> None:
        """Writes dead letters now: for agents that move the position in a transaction of their own. A letter may come twice."""

    def hold(self, task: Task, effects: Iterable[Effect]) -> None:
        """Holds effects that came from no batch (the outcome of a send) for the task's next checkpoint.

        Does nothing for a task whose partition has been taken away: its successor finds the work in the log.
        """

    def live(self, spec: TaskSpec) -> list[Task]:
        """The spec's tasks that are assigned here and recovered."""

    def measure(self, effects: Iterable[Effect]) -> None:
        """Count and observe at once: figures about this process, which belong to no checkpoint."""


class Unavailable(Exception):
    """The read model does not take anything just now; later it may. The message is for people."""


class ReadModel(Protocol):
    """The SQL side of the project role; `app.store.Writer` fills it."""

    async def positions(self, role: str, partition: int) -> Mapping[str, int]:
        """Where to go on: topic → next offset of this partition."""

    async def write(
        self, rows: Mapping[str, Sequence[Row]], *, role: str, topic: str, partition: int, next_offset: int
    ) -> None:
        """Rows and the position behind them, in one transaction. Raises `Unavailable`; then nothing of it is there."""

    async def write_definitions(self, rows: Sequence[Row]) -> None:
        """Make the definitions table say exactly this. Raises `Unavailable`."""

    async def forget(self, forgotten: Forgetting) -> int:
        """Delete the rows about subjects that are to be forgotten; how many went. Raises `Unavailable`."""

    async def prune(self) -> int:
        """Drop history that is older than is kept; how many rows went. Raises `Unavailable`."""


class Archive(Protocol):
    """Where the role archive keeps the log; `app.archive.Writer` fills it. Everything raises `Unavailable`."""

    roll_s: float
    """Rows wait at most this long for their file."""

    async def positions(self, partition: int) -> Mapping[str, int]:
        """Where to go on: topic → next offset of this partition."""

    async def write(self, partition: int, chunks: Sequence[Chunk], positions: Mapping[str, int]) -> int:
        """A file a chunk, and then the positions behind them; how many bytes. Writing a chunk again replaces its file."""

    async def definitions(self, forgotten: Forgetting | None = None) -> None:
        """Copy what is new on the topic `definitions`, which has one partition and no group; without names to be forgotten."""

    async def forget(self, partition: int, forgotten: Forgetting) -> int:
        """Write the partition's files again without rows about subjects that it was not asked to forget before; how many went."""

    async def prune(self) -> int:
        """Delete files that are older than is kept; how many went."""


class Outside(Protocol):
    """The way out: what `app.clients` offers DELIVER. Only there are sockets opened and secrets read."""

    async def send(self, owner: str, request: Request) -> Response:
        """Makes one attempt for a connection of `owner` (a tenant, or `all`). Never raises: why there is no answer is a value.
        Ends within the request's timeout.

        A `RecordRequest` is not written: the answer is 200 where its topic exists and the owner may write to it, and the
        caller emits it.
        """

    def reveal(self, owner: str, reference: Mapping[str, JsonValue]) -> str:
        """The secret that a reference of `owner`'s names. Raises `integrations.hands.SecretUnavailable`."""


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Rooms:
    """Given to every agent's `attach`."""

    wires: Wires
    catalogue: Catalogue
    """Live view of the definitions."""
    partitions: int = PARTITIONS
    """Of every keyed topic."""
    strict: bool = False
    """METER: rows of tenants or products that nobody defined are dead letters."""
    read_model: ReadModel | None = None
    """Only the project role has one."""
    outside: Outside | None = None
    """Needed by the role `deliver` alone."""
    attic: Attic | None = None
    """Where DECIDE's figures wait beyond what memory holds; None: memory has no bound."""
    archive: Archive | None = None
    """Only the role archive has one."""
    now: Callable[[], int] = wall_clock
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Agents with work in the air add theirs: called before a worker's last checkpoints, each ends within its own grace."""
    degraded: list[Callable[[], Mapping[str, str]]] = field(default_factory=list)
    """What does not work just now although the worker does: thing → how it stands. For `/readyz` and `uptake status`; called
    from any thread."""
