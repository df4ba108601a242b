"""orchestrate: signals, detections, receipts and clocks → runs of workflows → commands, and their history."""

from __future__ import annotations

from typing import Any

from agents.rooms import Rooms
from core.workflows.task import runs_spec
from schemas.registers import SOURCES


def attach(app: Any, rooms: Rooms) -> None:
    """Adds the agent to the app."""
    wires = rooms.wires

    async def orchestrate(stream: Any) -> None:
        async for task, batch in wires.batches(stream):
            await wires.work(task, batch)

    app.agent(wires.channel(app, runs_spec(rooms.catalogue, rooms.partitions, SOURCES)), name="orchestrate")(
        orchestrate
    )
