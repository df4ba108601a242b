"""ingest: topics that others shaped → events under our keys."""

from __future__ import annotations

from typing import Any

from agents.rooms import Rooms
from core.ingest import ingest_specs


def attach(app: Any, rooms: Rooms) -> None:
    """One agent a source topic that is defined now; a process that sees a new one must be started again."""
    wires = rooms.wires

    async def ingest(stream: Any) -> None:
        async for task, batch in wires.batches(stream):
            await wires.work(task, batch)

    for spec in ingest_specs(rooms.catalogue):
        app.agent(wires.channel(app, spec), name=f"ingest-{spec.topics[0]}")(ingest)
