"""The wires that agents are given: `agents.rooms.Wires` over Faust."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from core.batch import Batch
from core.effects import DeadLetter, Effect
from core.task import Task, TaskSpec
from transport.app import RoleApp
from transport.blocks import Block
from transport.consumer import BlockSchema
from transport.intake import measure
from transport.metrics import Metrics
from transport.options import Options
from transport.runner import State
from transport.tables import CheckpointedTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How one task stands, for `/readyz` and `uptake status`."""

    role: str
    group: str
    partition: int
    state: State
    error: str
    """Why it is not ready, with the next move; empty when all is well."""
    positions: dict[str, int]
    lag: dict[str, int]
    """Rows behind, by topic, where known."""
    checkpoint_age_s: float | None
    """Since the last committed checkpoint of this process; None before the first."""


class KafkaWires:
    """One role's wires."""

    def __init__(self, app: RoleApp, options: Options, metrics: Metrics) -> None:
        self._runs = app.runs
        self._options = options
        self._metrics = metrics

    def channel(self, app: Any, spec: TaskSpec) -> Any:
        """Registers the spec's tasks and gives the Faust channel of its topics' batches.

        Raises `ValueError` where another spec of the app has the same group name or topic.
        """
        self._runs.register(spec)
        if spec.state_topic is not None:
            name = f"{spec.role}.{spec.group}"
            state = app.topic(self._options.topic(spec.state_topic), key_type=bytes, value_type=bytes)
            app.tables.add(CheckpointedTable(app, name=name, changelog_topic=state, help="checkpointed by transport"))
        topics = [self._options.topic(topic) for topic in spec.topics]
        return app.topic(*topics, schema=BlockSchema(), maxsize=self._options.queued_batches)

    async def batches(self, stream: Any) -> AsyncIterator[tuple[Task, Batch]]:
        """Each batch with the recovered task of its partition.

        An agent that raises while it holds a batch loses the task: it is recovered from the log, and the batch comes again.
        """
        async with aclosing(stream.noack().events()) as events:
            async for event in events:
                block: Block = event.value
                runner = self._runs.of(block.topic, block.partition)
                if runner is None:
                    continue
                await runner.room()
                await runner.set_spoiled_aside(block)
                if not runner.accept(block):
                    continue
                try:
                    while (batch := runner.batch()) is not None and (task := runner.task) is not None:
                        yield task, batch
                        if runner.holds(batch):
                            break
                finally:
                    if runner.left(block):
                        runner.fail(
                            RuntimeError("the agent failed with a batch in hand (its own traceback is in the log)")
                        )

    def step(self, task: Task, batch: Batch) -> list[Effect] | None:
        """The effects of `task.step(batch)`. None where it raised: nothing may be performed then, the rows come again until
        those that raise are found and set aside.
        """
        runner = self._runs.of_task(task)
        return None if runner is None or not runner.holds(batch) else runner.step(task, batch)

    async def work(self, task: Task, batch: Batch) -> None:
        """`step` and, where it did not raise, `perform`. A step that takes long gives the event loop its turns in between, where
        the task tells effects one by one.
        """
        runner = self._runs.of_task(task)
        if runner is not None and runner.holds(batch):
            effects = await runner.work(task, batch)
            if effects is not None:
                self.perform(task, batch, effects)

    def perform(self, task: Task, batch: Batch, effects: Iterable[Effect]) -> None:
        """Holds the effects for the task's next checkpoint and marks the batch finished."""
        runner = self._runs.of_task(task)
        if runner is not None and runner.holds(batch):
            runner.finish(batch, effects)

    async def set_aside(self, task: Task, letters: Sequence[DeadLetter]) -> None:
        """Writes dead letters now: for agents that move the position in a transaction of their own. A letter may come twice.

        Raises what Kafka raises; the batch in hand must not be written then.
        """
        runner = self._runs.of_task(task)
        if runner is not None and letters:
            await runner.set_aside(letters)

    def hold(self, task: Task, effects: Iterable[Effect]) -> None:
        """Holds effects that came from no batch; nothing for a task whose partition has been taken away."""
        runner = self._runs.of_task(task)
        if runner is not None:
            runner.hold(effects)

    def live(self, spec: TaskSpec) -> list[Task]:
        """The spec's tasks that are assigned here and recovered, by partition."""
        return [
            runner.task
            for runner in self._runs.all()
            if runner.spec.group == spec.group and runner.state == "ready" and runner.task is not None
        ]

    def measure(self, effects: Iterable[Effect]) -> None:
        """Count and observe at once: figures about this process, which belong to no checkpoint."""
        measure(effects, self._metrics)

    def status(self) -> list[PartitionStatus]:
        """Every task that is assigned here."""
        return [
            PartitionStatus(
                runner.spec.role,
                runner.spec.group,
                runner.partition,
                runner.state,
                runner.error,
                {self._options.name(topic): offset for topic, offset in runner.next.items()},
                runner.lag(),
                None if runner.committed_at is None else self._runs.around.wall() - runner.committed_at,
            )
            for runner in self._runs.all()
        ]
