"""Public topics → read model. Rows and the position behind them go in one SQL transaction, so nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agents.rooms import ReadModel, Rooms
from core.batch import Batch
from core.effects import NOTHING, Effect
from core.forgetting import Forgetting
from core.project import TOPICS, definition_rows, project
from core.task import StateRecord, TaskSpec

ROLE = "project"
PRUNE_EVERY_S = 3600


class Projecting:
    """One partition's task. It keeps nothing: its state is in the read model."""

    def __init__(self, partition: int) -> None:
        self.partition = partition

    def load(self, key: bytes, value: bytes | None) -> None:
        """There is no state topic."""

    def loaded(self) -> None:
        """Nothing to do."""

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Rows are written by the agent, which can wait for a database."""
        return NOTHING

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Nothing happens by time."""
        return NOTHING

    def wake_at(self) -> int | None:
        """Never needed."""
        return None

    def drain(self) -> list[StateRecord]:
        """Nothing is kept in Kafka."""
        return []


def spec(model: ReadModel) -> TaskSpec:
    """All public topics together; positions come from the read model itself."""
    return TaskSpec(
        role=ROLE,
        group="public",
        topics=TOPICS,
        make=Projecting,
        state_topic=None,
        positions=lambda partition: model.positions(ROLE, partition),
    )


def attach(app: Any, rooms: Rooms) -> None:
    """Adds the agent, and the timers that mirror definitions, drop old history and forget whom to forget."""
    model = rooms.read_model
    if model is None:
        raise ValueError("the project role needs rooms.read_model: give Rooms an app.store.Writer")

    forgotten = Forgetting(rooms.catalogue)

    async def projecting(stream: Any) -> None:
        async for task, batch in rooms.wires.batches(stream):
            made = project(batch, forgotten)
            await model.write(
                made.rows, role=ROLE, topic=batch.topic, partition=batch.partition, next_offset=batch.next_offset
            )
            rooms.wires.perform(task, batch, made.effects)

    mirrored = -1
    forgot = 0

    async def definitions() -> None:
        nonlocal mirrored
        if (generation := rooms.catalogue.generation) != mirrored:
            await model.write_definitions(definition_rows(list(rooms.catalogue.heads())))
            mirrored = generation

    async def forget() -> None:
        nonlocal forgot
        if (version := forgotten.version) != forgot:
            await model.forget(forgotten)
            forgot = version

    async def old() -> None:
        await model.prune()

    app.agent(rooms.wires.channel(app, spec(model)), name="project")(projecting)
    app.timer(interval=1.0, name="project-definitions")(definitions)
    app.timer(interval=1.0, name="project-forget")(forget)
    app.timer(interval=PRUNE_EVERY_S, name="project-prune")(old)
