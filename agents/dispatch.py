"""dispatch: commands → deliveries, or the reason why not."""

from __future__ import annotations

from typing import Any

from agents.rooms import Rooms
from core.delivery.dispatch import dispatch_spec


def attach(app: Any, rooms: Rooms) -> None:
    """Commands in, deliveries and receipts out; state: the ledger of ids."""
    wires, spec = rooms.wires, dispatch_spec(rooms.catalogue)

    async def dispatch(stream: Any) -> None:
        async for task, batch in wires.batches(stream):
            await wires.work(task, batch)

    app.agent(wires.channel(app, spec), name="dispatch")(dispatch)
