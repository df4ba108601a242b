"""Definitions on their topic: read to the end and followed by everyone, published by the gateway and the command line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

import msgspec
from aiokafka import TopicPartition
from pydantic import ValidationError

from app.kafka import NoKafka, Record, partition_counts, producer, read, shown
from app.settings import Settings
from core.definitions import Catalogue
from core.workflows.publishing import announcement, with_earlier
from schemas.definitions import DEFINITION, FORMAT, Definition, Workflow, head_key, version_key
from schemas.registers import Signal

TOPIC = "definitions"
SIGNALS = "signals"
FORMAT_HEADER = "uptake-format"
"""Of every record; absent: 1."""
log = logging.getLogger(__name__)


class DefinitionsNewer(RuntimeError):
    """Somebody wrote definitions that this version would misread; the message names the next move."""


class Definitions:
    """Follows the topic into a `Catalogue`: group-less, so that every process sees all of it."""

    def __init__(self, settings: Settings, catalogue: Catalogue | None = None) -> None:
        self.settings = settings
        self.catalogue = catalogue if catalogue is not None else Catalogue()
        self.refused = 0
        """Records that were no definition (another version's, or a foreign producer's)."""
        self.heard_ms = 0
        """When Kafka answered last: the wall clock's milliseconds."""
        self._read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Catalogue:
        """Reads everything that is there now, then goes on in the background. Raises what reading raises."""
        self._task = asyncio.create_task(self._follow(), name="definitions")
        waiting = asyncio.create_task(self._read.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self._task.result()
        return self.catalogue

    async def stop(self) -> None:
        """Ends the reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def failure(self) -> BaseException | None:
        """Why following ended, if it did: a process must not go on with definitions that stand still."""
        if self._task is None or not self._task.done():
            return None
        if self._task.cancelled():  # not by `stop`, after which nobody asks
            return NoKafka("the Kafka client cancelled the reading")
        return self._task.exception()

    async def _follow(self) -> None:
        async for record in read(self.settings, [TOPIC], follow=True, at_end=self._read.set, heard=self._hear):
            refuse_newer(record)
            if record.key is not None:
                self._take(record.key, record.value)

    def _hear(self, at: int) -> None:
        self.heard_ms = at

    def _take(self, key: bytes, value: bytes | None) -> None:
        try:
            self.catalogue.apply(key, value)
        except (ValidationError, UnicodeDecodeError) as error:
            self.refused += 1
            log.error("definition %r is refused: %s", key, str(error).splitlines()[0])


async def load(settings: Settings) -> Catalogue:
    """Everything that is on the topic now."""
    return (await _known(settings))[0]


async def publish(settings: Settings, definitions: Iterable[Definition], by: str = "") -> list[Definition]:
    """Writes a new version of each definition that differs from the one in force, and returns those written.

    One transaction: readers see all of them or none, and runs of workflows are told what `publish` says in the same. The version
    given is ignored; it counts up from the newest there ever was. `by`: who publishes.
    """
    catalogue, newest = await _known(settings)
    current = {head_key(d): d for d in catalogue.written()}
    changed: list[Definition] = []
    told: list[Signal] = []
    for definition in definitions:
        key = head_key(definition)
        before = current.get(key)
        fresh = definition.model_copy(update={"version": newest.get(key, 0) + 1})
        if isinstance(fresh, Workflow):
            was = before if isinstance(before, Workflow) else None
            fresh = with_earlier(was, fresh)
            if (signal := announcement(was, fresh, _now(), by)) is not None and not same(was or fresh, fresh):
                told.append(signal)
        if before is None or not same(before, fresh):
            changed.append(fresh)
    await _write(
        settings,
        [(key, DEFINITION.dump_json(d)) for d in changed for key in (version_key(d), head_key(d))],
        told,
    )
    return changed


async def differing(settings: Settings, definitions: Iterable[Definition]) -> list[Definition]:
    """Those that are in force in another version than these."""
    current = {head_key(d): d for d in (await load(settings)).heads()}
    return [d for d in definitions if (was := current.get(head_key(d))) is not None and not same(was, d)]


async def _known(settings: Settings) -> tuple[Catalogue, dict[bytes, int]]:
    """Everything that is on the topic, and the newest version that each definition ever had, in force or not."""
    catalogue, newest = Catalogue(), dict[bytes, int]()
    async for record in read(settings, [TOPIC]):
        refuse_newer(record)
        if record.key is None:
            continue
        *head, version = record.key.rsplit(b"|", 1)
        if record.key.count(b"|") == 3 and version.isdigit():
            newest[head[0]] = max(int(version), newest.get(head[0], 0))
        try:
            catalogue.apply(record.key, record.value)
        except ValidationError as error:
            log.error("definition %r is refused: %s", record.key, str(error).splitlines()[0])
    for definition in catalogue.written():
        key = head_key(definition)
        newest[key] = max(definition.version, newest.get(key, 0))
    return catalogue, newest


def _now() -> int:
    return time.time_ns() // 1_000_000


def refuse_newer(record: Record) -> None:
    """Raises `DefinitionsNewer` for a record of a format that only a later version reads."""
    found = next((value for name, value in record.headers if name == FORMAT_HEADER), b"1")
    if not found.isdigit() or int(found) > FORMAT:
        raise DefinitionsNewer(
            f"the definitions have format {found.decode(errors='replace')}, this version reads {FORMAT}: run the version that "
            "wrote them (upgrade workers before the gateway and the command line)"
        )


async def retire(settings: Settings, definitions: Iterable[Definition]) -> None:
    """Takes definitions out of force; their versions stay as history. Of workflows whose runs may go on, publish one that is `retired`
    instead.
    """
    await _write(settings, [(head_key(d), None) for d in definitions])


async def erase_versions(settings: Settings, definitions: Iterable[Definition]) -> None:
    """Deletes these versions and the older ones from history too: they hold what must go. Heads stay as they are."""
    keys = [version_key(d.model_copy(update={"version": v})) for d in definitions for v in range(1, d.version + 1)]
    await _write(settings, [(key, None) for key in keys])


def same(one: Definition, other: Definition) -> bool:
    """Whether two definitions differ in their version at most (and in what publishing fills in)."""
    filled = {"version", "earlier", "asked_before"}
    return one.model_dump(exclude=filled) == other.model_dump(exclude=filled)


async def _write(settings: Settings, records: list[tuple[bytes, bytes | None]], signals: Sequence[Signal] = ()) -> None:
    if not records:
        return
    topic, told = settings.topic(TOPIC), settings.topic(SIGNALS)
    partitions = (await partition_counts(settings, [told]))[told] if signals else 0
    async with producer(settings, transactional_id=f"{settings.topic_prefix}definitions") as made:
        async with made.transaction():
            headers = [(FORMAT_HEADER, str(FORMAT).encode())]
            waiting = [await made.send(topic, value, key=key, headers=headers) for key, value in records]
            for signal in signals:
                value = msgspec.json.encode(signal)
                waiting += [await made.send(told, value, partition=p) for p in range(partitions)]
            sent = await asyncio.gather(*waiting)
    # Who publishes next counts versions on from what it reads: it must find these.
    await shown(
        settings,
        {TopicPartition(r.topic, r.partition): r.offset + 1 for r in sorted(sent, key=lambda r: int(r.offset))},
    )
