"""meter: events → registers, clocks, signals."""

from __future__ import annotations

from typing import Any

from agents.rooms import Rooms
from core.definitions import Catalogue
from core.meter import others
from core.meter.task import TOPICS, MeterTask
from core.task import TaskSpec


def meter_spec(catalogue: Catalogue, partitions: int, *, strict: bool = False) -> TaskSpec:
    """How METER's tasks are made. One task has partition n of both hot topics."""
    return TaskSpec(
        role="meter",
        group="events",
        topics=TOPICS,
        make=lambda partition: MeterTask(partition, partitions, catalogue, strict=strict),
        state_topic="state.meter",
        state_format=2,  # 2: rows of predictions beside bases and deltas
    )


def others_spec(catalogue: Catalogue, partitions: int, *, strict: bool = False) -> TaskSpec:
    """How the tasks of the other events topics are made. One task has partition n of all six."""
    return TaskSpec(
        role="meter",
        group="others",
        topics=others.TOPICS,
        make=lambda partition: others.OthersTask(partition, partitions, catalogue, strict=strict),
        state_topic="state.meter.others",
    )


def attach(app: Any, rooms: Rooms) -> None:
    """Two groups of one role: the hot topics wait for no other."""
    wires = rooms.wires

    async def meter(stream: Any) -> None:
        async for task, batch in wires.batches(stream):
            await wires.work(task, batch)

    spec = meter_spec(rooms.catalogue, rooms.partitions, strict=rooms.strict)
    app.agent(wires.channel(app, spec), name="meter")(meter)
    spec = others_spec(rooms.catalogue, rooms.partitions, strict=rooms.strict)
    app.agent(wires.channel(app, spec), name="meter-others")(meter)
