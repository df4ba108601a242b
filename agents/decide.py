"""decide: registers → tables, detections, commands; signals → commands; parts → outcomes."""

from __future__ import annotations

from typing import Any

from agents.rooms import Rooms
from core.accounts import Book
from core.decide.signals import signals_spec
from core.decide.task import registers_spec
from core.outcomes.task import outcomes_spec
from schemas.registers import SOURCES


def attach(app: Any, rooms: Rooms) -> None:
    """Three groups of one role, so that a flood of signals delays neither the tables nor the outcomes."""
    wires = rooms.wires

    async def decide(stream: Any) -> None:
        async for task, batch in wires.batches(stream):
            await wires.work(task, batch)

    book = Book("matched")
    for spec in (
        registers_spec(rooms.catalogue, rooms.partitions, book, SOURCES, rooms.attic),
        signals_spec(rooms.catalogue, rooms.partitions, book),
        outcomes_spec(rooms.catalogue, rooms.partitions, book),
    ):
        app.agent(wires.channel(app, spec), name=f"decide-{spec.group}")(decide)
