"""Runs of workflows from outside: histories, who stands where, words of people to one or many, replays."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping

import msgspec
from pydantic import JsonValue, ValidationError

from app.definitions import TOPIC as DEFINITIONS
from app.kafka import bootstrap, partitions_of, producer, read, security_of
from app.settings import Settings
from core.decide.packing import read_key
from core.workflows.graph import Library
from core.workflows.jobs import Record
from core.workflows.replay import replay
from core.workflows.run import Run, unpack
from core.workflows.standing import Preview, Wanted, Where, preview, where_of
from core.workflows.testing import histories
from schemas.definitions import DEFINITION, Definition, Workflow
from schemas.envelope import key
from schemas.registers import Signal
from transport.state import read_state

_record = msgspec.json.Decoder(Record).decode
STATE = "state.orchestrate"
_AT_ONCE = 1_000
"""Words that are sent before the first is waited for."""


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


async def going(settings: Settings) -> AsyncIterator[Run]:
    """Every run that goes on, as its owner's last checkpoint has it. Raises `NoKafka`, `MissingTopic`."""
    for place in await partitions_of(settings, [STATE]):
        rows: dict[bytes, bytes] = {}
        state = read_state(bootstrap(settings), place.topic, place.partition, security=security_of(settings))
        async for name, value in state:
            if value is None:
                rows.pop(name, None)
            elif read_key(name)[0] == "run":
                rows[name] = value
        for value in rows.values():
            yield unpack(value)


async def meant(settings: Settings, wanted: Wanted) -> list[Run]:
    """The runs that a person means."""
    return [run async for run in going(settings) if wanted.holds(run)]


async def previews(settings: Settings, definitions: Iterable[Definition]) -> list[Preview]:
    """Who stands where, for each of these workflows that has runs of another version than the one that would be published."""
    wanted = {d.name: d for d in definitions if isinstance(d, Workflow)}
    if not wanted:
        return []
    library = await library_of(settings)
    standing: dict[str, Counter[Where]] = {name: Counter() for name in wanted}
    async for run in going(settings):
        after = wanted.get(run.workflow)
        graph = library.get(run.tenant, run.workflow, run.pins[""], "" in run.shared)
        if after is not None and (graph is None or graph.workflow.tenant == after.tenant):
            standing[run.workflow][where_of(run)] += 1
    return [preview(library, d.tenant, d, standing[name]) for name, d in wanted.items() if standing[name]]


async def inside(settings: Settings, workflow: Workflow) -> int:
    """How many runs of this tenant's workflow go on, whatever their version."""
    library = await library_of(settings)
    found = 0
    async for run in going(settings):
        graph = library.get(run.tenant, run.workflow, run.pins[""], "" in run.shared)
        owner = workflow.tenant if graph is None else graph.workflow.tenant
        found += run.workflow == workflow.name and owner == workflow.tenant
    return found


async def tell(settings: Settings, last: Record | Run, kind: str, data: Mapping[str, JsonValue], now: int) -> None:
    """Tell a run something: `approval` (step, approved, by) or `cancel` (by, compensate). `last`: any record of the run's history."""
    await tell_all(settings, [last], kind, data, now)


async def tell_all(
    settings: Settings, runs: Iterable[Record | Run], kind: str, data: Mapping[str, JsonValue], now: int
) -> int:
    """Tell many runs the same, each on its subject's partition; how many were told."""
    waiting, told = [], 0
    async with producer(settings) as made:
        for run in runs:
            id_ = run.run if isinstance(run, Record) else run.id
            place, value = word(id_, run.tenant, run.subject, kind, data, now)
            waiting.append(await made.send(settings.topic("signals"), value, key=place))
            told += 1
            if len(waiting) >= _AT_ONCE:
                for sent in waiting:
                    await sent
                waiting.clear()
        for sent in waiting:
            await sent
    return told


def word(
    run: str, tenant: str, subject: str, kind: str, data: Mapping[str, JsonValue], now: int
) -> tuple[bytes, bytes]:
    """Key and value of the signal that tells a run something."""
    signal = Signal(
        tenant=tenant,
        product="",
        subject=subject,
        kind=kind,
        cause=str(uuid.uuid4()),
        rules=[],
        at=now,
        data={"run": run, **data},
    )
    return key(tenant, subject), msgspec.json.encode(signal)
