"""One id, everything that hangs together with it: event → detection → command → deliveries → receipts → sink."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Table, or_, select

from app.store.engine import Store
from app.store.tables import commands, dead_letters, detections, receipts, sink
from schemas.commands import Command
from schemas.delivery import DeadLetter, Receipt, SinkRecord
from schemas.detections import DETECTION, Detection

Found = Literal["event", "detection", "command", "delivery", "nothing"]
MOST = 200
"""A trace shows no more than this of each kind."""


class Trace(BaseModel):
    """What was found, in the order in which it happened."""

    id: str
    found: Found
    """What the id is the id of."""
    detections: list[Detection]
    commands: list[Command]
    receipts: list[Receipt]
    sink: list[SinkRecord]
    dead_letters: list[DeadLetter]


async def trace(store: Store, wanted: str, *, tenant: str | None = None) -> Trace:
    """Everything linked to an event's, detection's, command's or delivery's id.

    An event is linked by the commands whose cause it is and by dead letters that kept it; an event that only moved
    figures is not linked to the detections that those figures led to.
    """
    async with store.reader.begin() as connection:

        async def bodies(table: Table, *where: ColumnElement[bool], by: str) -> list[str]:
            scoped = [table.c.tenant == tenant] if tenant is not None else []
            picked = select(table.c.body).where(*where, *scoped).order_by(table.c[by]).limit(MOST)
            return list((await connection.execute(picked)).scalars())

        found: Found = "nothing"
        letters: list[DeadLetter] = []
        seen = await bodies(detections, detections.c.id == wanted, by="at")
        ordered = await bodies(commands, commands.c.id == wanted, by="issued_at")
        if seen:
            found = "detection"
            ordered = await bodies(commands, commands.c.detection == wanted, by="issued_at")
        elif ordered:
            found = "command"
        else:
            delivered = select(receipts.c.command).where(receipts.c.delivery == wanted)
            sunk = select(sink.c.command).where(sink.c.delivery == wanted)
            ordered = await bodies(commands, or_(commands.c.id.in_(delivered), commands.c.id.in_(sunk)), by="issued_at")
            if ordered:
                found = "delivery"
            else:
                ordered = await bodies(commands, _caused_by(wanted), by="issued_at")
                scoped = [dead_letters.c.tenant == tenant] if tenant is not None else []
                columns = [dead_letters.c[name] for name in DeadLetter.model_fields]
                kept = await connection.execute(
                    select(*columns).where(dead_letters.c.event == wanted, *scoped).limit(MOST)
                )
                letters = [DeadLetter.model_validate(dict(row)) for row in kept.mappings()]
                found = "event" if ordered or letters else "nothing"
        made = [Command.model_validate_json(body) for body in ordered]
        causes = [c.why.detection for c in made if c.why.detection is not None]
        if not seen and causes:
            seen = await bodies(detections, detections.c.id.in_(causes), by="at")
        ids = [c.id for c in made]
        # a match that was suppressed has receipts under the id its command would have had
        told = await bodies(receipts, receipts.c.command.in_(ids or [wanted]), by="at")
        if told and found == "nothing":
            found = "command"
        kept_at_sink = await bodies(sink, sink.c.command.in_(ids), by="recorded_at") if ids else []
    return Trace(
        id=wanted,
        found=found,
        detections=[DETECTION.validate_json(body) for body in seen],
        commands=made,
        receipts=[Receipt.model_validate_json(body) for body in told],
        sink=[SinkRecord.model_validate_json(body) for body in kept_at_sink],
        dead_letters=letters,
    )


def _caused_by(event: str) -> ColumnElement[bool]:
    """A command's cause is the event's identity: its id, alone or after its CloudEvents source.

    A rule with a cool-down has the bucket's start as its cause: its commands are not found by an event.
    """
    return or_(commands.c.cause == event, commands.c.cause.endswith("/" + event, autoescape=True))
