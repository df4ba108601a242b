"""deliver: deliveries → attempts → receipts, parked retries, dead letters."""

from __future__ import annotations

from typing import Any

from agents.pump import Pump
from agents.rooms import Rooms
from core.delivery.deliver import deliver_spec


def attach(app: Any, rooms: Rooms) -> None:
    """Deliveries in, receipts out; state: the deliveries that wait. The pump makes the attempts."""
    wires, spec = rooms.wires, deliver_spec(rooms.catalogue)
    pump = Pump(rooms, spec)
    rooms.closers.append(pump.stop)
    rooms.degraded.append(pump.degraded)
    app.task(pump.run)

    async def deliver(stream: Any) -> None:
        async for task, batch in wires.batches(stream):
            await wires.work(task, batch)
            pump.wake()

    app.agent(wires.channel(app, spec), name="deliver")(deliver)
