"""Public topics → read model. Rows and the position behind them go in one SQL transaction, so nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from agents.patience import Patience
from agents.rooms import ReadModel, Rooms
from core.batch import Batch
from core.effects import NOTHING, DeadLetter, Effect
from core.forgetting import Forgetting
from core.project import TOPICS, definition_rows, project
from core.public import Row
from core.task import StateRecord, TaskSpec

ROLE = "project"
PRUNE_EVERY_S = 3600


class Projecting:
    """One partition's task. It keeps nothing: its state is in the read model."""

    def __init__(self, partition: int, forgotten: Forgetting | None = None) -> None:
        self.partition = partition
        self._forgotten = forgotten
        self.rows: dict[str, list[Row]] = {}
        """Of the batch that was stepped last, by table; the agent writes them, since it can wait for a database."""

    def load(self, key: bytes, value: bytes | None) -> None:
        """There is no state topic."""

    def loaded(self) -> None:
        """Nothing to do."""

    def step(self, batch: Batch) -> Iterable[Effect]:
        """The batch as rows."""
        made = project(batch, self._forgotten)
        self.rows = made.rows
        return made.effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Nothing happens by time."""
        return NOTHING

    def wake_at(self) -> int | None:
        """Never needed."""
        return None

    def drain(self) -> list[StateRecord]:
        """Nothing is kept in Kafka."""
        return []


def spec(model: ReadModel, forgotten: Forgetting | None = None) -> TaskSpec:
    """All public topics together, without whom to forget; positions come from the read model itself."""
    return TaskSpec(
        role=ROLE,
        group="public",
        topics=TOPICS,
        make=lambda partition: Projecting(partition, forgotten),
        state_topic=None,
        positions=lambda partition: model.positions(ROLE, partition),
    )


def attach(app: Any, rooms: Rooms) -> None:
    """Adds the agent, and the timers that mirror definitions, drop old history and forget whom to forget."""
    model = rooms.read_model
    if model is None:
        raise ValueError("the project role needs rooms.read_model: give Rooms an app.store.Writer")

    forgotten = Forgetting(rooms.catalogue)
    forgot, late = (0, 0), 0
    patience = Patience(rooms)
    rooms.degraded.append(patience.degraded)

    async def projecting(stream: Any) -> None:
        nonlocal late
        async for task, batch in rooms.wires.batches(stream):
            before = forgotten.version
            effects = rooms.wires.step(task, batch)
            if effects is None or not isinstance(task, Projecting):
                continue
            # Before the position behind them: a crash in between must not lose them.
            letters = [effect for effect in effects if isinstance(effect, DeadLetter)]
            await rooms.wires.set_aside(task, letters)
            await patience.until_done(
                partial(
                    model.write,
                    task.rows,
                    role=ROLE,
                    topic=batch.topic,
                    partition=batch.partition,
                    next_offset=batch.next_offset,
                )
            )
            # Rows may have waited while somebody in them was forgotten.
            late += forgotten.version != before
            rooms.wires.perform(task, batch, [e for e in effects if not isinstance(e, DeadLetter)])

    mirrored = -1

    async def definitions() -> None:
        nonlocal mirrored
        if (generation := rooms.catalogue.generation) != mirrored and await patience.once(
            lambda: model.write_definitions(definition_rows(list(rooms.catalogue.heads())))
        ):
            mirrored = generation

    async def forget() -> None:
        nonlocal forgot
        if (wanted := (forgotten.version, late)) != forgot and await patience.once(lambda: model.forget(forgotten)):
            forgot = wanted

    async def old() -> None:
        await patience.once(model.prune)

    app.agent(rooms.wires.channel(app, spec(model, forgotten)), name="project")(projecting)
    app.timer(interval=1.0, name="project-definitions")(definitions)
    app.timer(interval=1.0, name="project-forget")(forget)
    app.timer(interval=PRUNE_EVERY_S, name="project-prune")(old)
