"""A task: the state of one partition of one role, and its logic. `transport` runs it and makes its checkpoints.

Life of a task, all on one event loop, never concurrently:

1. made when its partition is assigned; `load(key, value)` for every live record of its state topic's partition, in log
   order (a key may come more than once: the later one wins; deleted keys may come as None); then `loaded()`;
2. `step(batch)` for each fetched batch, and `tick(now, caught_up)` at least once a second and whenever `wake_at()` is due;
   the effects of both are held back until the checkpoint that follows;
3. at a checkpoint: `drain()`, whose records are written to the state topic in the same Kafka transaction as the held
   effects and the source positions. After `drain` the task goes on while the transaction is sent;
4. after a failed or fenced commit the task object is thrown away and made anew from the log.

Same log, same effects: a task takes time only from rows, and `now` only in `tick`; whatever `tick` decides by `now` must
be in what it drains or emits, so that a replay that starts after it does not need it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.batch import Batch
from core.effects import Effect

StateRecord = tuple[bytes, bytes | None]
"""(key, value) of the state topic; None deletes the key."""


class Task(Protocol):
    """One partition's state and logic."""

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the state topic, in log order, during recovery."""

    def loaded(self) -> None:
        """Recovery is over."""

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Fold a batch. A task that may work long makes this a generator that tells something now and then: others may have
        their turn there, but nothing of this task. Never raises for a row's sake: a bad row is a `DeadLetter`. If it does all
        the same (a defect), the state is thrown away and the row is found and set aside by `transport`.
        """

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Time has passed. `caught_up` names the (topic, partition) pairs of this task that were read to their end."""

    def wake_at(self) -> int | None:
        """When `tick` is wanted at the latest (milliseconds); None: once a second is enough."""

    def drain(self) -> list[StateRecord]:
        """What changed since the last drain, copied out."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """How a role's tasks are made. Topics of one spec have one partition count and move together."""

    role: str
    """`meter`, `decide`, `deliver` …: the consumer group, with the settings' prefix."""
    group: str
    """Topic group, part of the transactional id `role|group|partition`."""
    topics: tuple[str, ...]
    """Source topics, without prefix."""
    make: Callable[[int], Task]
    """Makes the (empty) task of a partition."""
    state_topic: str | None
    """None: the state is kept outside Kafka (read model, archive), with its positions; see `positions`."""
    positions: Callable[[int], Awaitable[Mapping[str, int]]] | None = None
    """Only without a state topic: where to go on, topic → next offset of this partition, read when it is assigned. Such tasks
    make no checkpoints: the agent writes rows and positions in one transaction of its own before it calls `perform`."""
    state_format: int = 1
    """Of the records the task drains; grows when a version before could not read them. The task reads every lower one (fixtures
    of each: `tests/fixtures/state`); a higher one is refused before anything is written."""
