"""Rooms: the few handles an agent is given, as protocols; `app` fills them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Effect
from core.task import Task, TaskSpec


class Wires(Protocol):
    """What `transport` offers an agent."""

    def channel(self, app: Any, spec: TaskSpec) -> Any:
        """Registers the spec's tasks and gives the Faust channel of its topics' batches."""

    def batches(self, stream: Any) -> AsyncIterator[tuple[Task, Batch]]:
        """Each batch with the recovered task of its partition."""

    def perform(self, task: Task, batch: Batch, effects: Iterable[Effect]) -> None:
        """Holds the effects for the task's next checkpoint and marks the batch finished."""

    def hold(self, task: Task, effects: Iterable[Effect]) -> None:
        """Holds effects that came from no batch (the outcome of a send) for the task's next checkpoint.

        Does nothing for a task whose partition has been taken away: its successor finds the work in the log.
        """

    def live(self, spec: TaskSpec) -> list[Task]:
        """The spec's tasks that are assigned here and recovered."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """Given to every agent's `attach`."""

    wires: Wires
    catalogue: Catalogue
    """Live view of the definitions."""
