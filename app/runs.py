"""Runs of workflows from outside: their histories on the topic `runs`, answers and cancellations by people, replays."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import msgspec
from pydantic import JsonValue, ValidationError

from app.definitions import TOPIC as DEFINITIONS
from app.kafka import producer, read
from app.settings import Settings
from core.workflows.graph import Library
from core.workflows.jobs import Record
from core.workflows.replay import replay
from core.workflows.testing import histories
from schemas.definitions import DEFINITION, Workflow
from schemas.envelope import key
from schemas.registers import Signal

_record = msgspec.json.Decoder(Record).decode


async def all_runs(settings: Settings) -> dict[str, list[Record]]:
    """Run → its history, of all that the topic still holds."""
    found = [_record(r.value) async for r in read(settings, ["runs"]) if r.value is not None]
    return histories(found)


async def library_of(settings: Settings) -> Library:
    """Every version of every workflow that the topic of definitions holds."""
    library = Library()
    async for record in read(settings, [DEFINITIONS]):
        parts = (record.key or b"").decode().split("|")
        if record.value is None or len(parts) < 3 or parts[1] != "workflow":
            continue
        try:
            found = DEFINITION.validate_json(record.value)
        except ValidationError:
            continue
        if isinstance(found, Workflow):
            library.put(found)
    return library


def replayed(library: Library, history: list[Record]) -> list[str]:
    """What today's code would do otherwise, one line each."""
    try:
        return replay(library, history)
    except LookupError as error:
        return [str(error)]


async def tell(settings: Settings, last: Record, kind: str, data: Mapping[str, JsonValue], now: int) -> None:
    """Tell a run something: `approval` (step, approved, by) or `cancel` (by, compensate). `last`: any record of the run's history."""
    signal = Signal(
        tenant=last.tenant,
        product="",
        subject=last.subject,
        kind=kind,
        cause=str(uuid.uuid4()),
        rules=[],
        at=now,
        data={"run": last.run, **data},
    )
    async with producer(settings) as made:
        place = key(last.tenant, last.subject)
        await made.send_and_wait(settings.topic("signals"), msgspec.json.encode(signal), key=place)
