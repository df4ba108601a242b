"""A backup into an empty cluster: logs first, then the read model and the states with their positions mapped, definitions last.

Workers refuse to start while topics are missing, so nobody works on half of it. Rows keep their broker times: topics are made
with the producer's time while they are filled, and are given their declared configuration at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from app import topics as declared
from app.backup import model
from app.backup.manifest import Manifest, name_of
from app.backup.place import RESTORES, Place
from app.backup.redriven import LETTERS, REDRIVES, replaced, sent_again
from app.backup.refill import Behind, Change, KeyValue, Moved, Refill
from app.kafka import admin, client, consumer, ends_of, partition_counts
from app.settings import Settings
from app.store import open_store
from app.store.tables import SCHEMA_VERSION
from app.watch import workers
from schemas.topics import BY_NAME, TopicSpec
from transport.state import POSITIONS, decode_positions, encode_positions

LAST: Final = "definitions"
READ_MODEL_ROLE: Final = "project"
Told = Callable[[str], None]
Mapped = dict[str, Moved]
"""By topic without prefix; sources by their own name."""


class NotEmpty(RuntimeError):
    """There is something where a restore would write; the message names the next move."""


class RestoreFailed(RuntimeError):
    """What was written is not what was to be; the message names the next move."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to."""

    rows: int
    model_rows: int
    seconds: float
    dropped: int
    """Rows that were written behind the cut, by checkpoints that it does not hold: they are made again."""
    overtaken: int
    waiting: int
    """Rows that are there again and that a task has yet to read."""
    newest_event: int | None
    """Broker time of the youngest event that is there again."""


async def restore(settings: Settings, place: Place, manifest: Manifest, *, told: Told = lambda text: None) -> Restored:
    """Bring a backup back. Nothing is written before everything was looked at.

    Raises `NotEmpty`, `RestoreFailed`, `PlaceError`, `NoKafka`, `StoreError`, `ModelNotEmpty`.
    """
    began = time.monotonic()
    await _refuse(settings, manifest)
    wanted = await _wanted(place, manifest)
    letters = await sent_again(place, manifest.topics[REDRIVES])
    mapped: Mapped = {}
    logs = [n for n in manifest.topics if n in BY_NAME and n not in manifest.states and n != LAST]
    logs.sort(key=lambda name: name == REDRIVES)  # behind the letters that they name
    async with Refill(client(settings), place) as refill:
        await _make(settings, logs)
        for name in logs:
            told(f"{name}: {manifest.topics[name].rows:,} rows")
            mapped[name] = await refill.topic(
                settings.topic(name),
                manifest.topics[name],
                wanted=wanted.get(name, ()),
                named=letters if name == LETTERS else (),
                behind=_behind(manifest, name),
                change=replaced(mapped[LETTERS]) if name == REDRIVES else None,
            )
        there = await partition_counts(settings, manifest.sources)
        for name, copy in manifest.sources.items():
            if name not in there:
                await _make_source(settings, name, copy.partitions)
                mapped[name] = await refill.topic(name, copy, wanted=wanted.get(name, ()))
        told("read model")
        model_rows = await _model(settings, place, manifest, mapped)
        for name, state in manifest.states.items():
            told(f"{name}: {manifest.topics[name].rows:,} rows")
            await _make(settings, [name])
            mapped[name] = await refill.topic(
                settings.topic(name), manifest.topics[name], ends=state.ends, change=_repositioned(mapped)
            )
        await _make(settings, [LAST])
        mapped[LAST] = await refill.topic(settings.topic(LAST), manifest.topics[LAST])
    await _check(settings, mapped)
    await _configure(settings, manifest.topics, now=_now(), cut=manifest.at)
    await place.put(f"{RESTORES}{name_of(_now())}", manifest.id.encode())
    events = [at for name, copy in manifest.topics.items() if name.startswith("events.") for at in copy.newest.values()]
    return Restored(
        rows=sum(sum(moved.rows.values()) for moved in mapped.values()),
        model_rows=model_rows,
        seconds=time.monotonic() - began,
        dropped=sum(moved.dropped for name, moved in mapped.items() if name not in manifest.states),
        overtaken=sum(moved.overtaken for name, moved in mapped.items() if name not in manifest.states),
        waiting=_waiting(manifest, mapped),
        newest_event=max(events, default=None),
    )


async def _refuse(settings: Settings, manifest: Manifest) -> None:
    if manifest.partitions != settings.partitions:
        raise NotEmpty(
            f"the backup has {manifest.partitions} partitions, the settings say {settings.partitions}: "
            f"set UPTAKE_PARTITIONS={manifest.partitions}"
        )
    if manifest.model_version != SCHEMA_VERSION:
        raise NotEmpty(
            f"the backup's read model has version {manifest.model_version}, this Uptake writes {SCHEMA_VERSION}: "
            "restore with the version that made the backup, then upgrade"
        )
    running = await workers(settings, metrics=False)
    if running:
        raise NotEmpty(f"{', '.join(w.name for w in running)} still run: stop `uptake worker` (or `uptake up`) first")
    counts = await declared.existing(settings)
    if full := await _with_rows(settings, counts):
        raise NotEmpty(
            f"{len(full)} topics hold rows ({full[0]} …): restore into an empty cluster, or under another "
            "UPTAKE_TOPIC_PREFIX; `uptake reset --everything` empties this one"
        )
    store = await open_store(settings.store_url)
    try:
        await model.refuse_rows(store)
    finally:
        await store.close()
    if counts:  # empty ones, made by `uptake topics create`: made anew, with the times of the backup
        async with admin(settings) as made_admin:
            await made_admin.delete_topics([settings.topic(name) for name in counts])
            while await declared.existing(settings):
                await asyncio.sleep(0.1)


async def _with_rows(settings: Settings, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    async with consumer(settings) as made:
        ends = await ends_of(
            made, [TopicPartition(settings.topic(name), p) for name, count in counts.items() for p in range(count)]
        )
    return sorted({tp.topic for tp, end in ends.items() if end})


async def _wanted(place: Place, manifest: Manifest) -> dict[str, set[tuple[int, int]]]:
    """Every offset that some state holds, by topic."""
    wanted: dict[str, set[tuple[int, int]]] = {}
    for task, stand in manifest.tasks.items():
        partition = int(task.rpartition("|")[2])
        for topic, offset in stand.next.items():
            wanted.setdefault(topic, set()).add((partition, offset))
    for topic, partition, offset in await model.read_marks(place, manifest.model):
        wanted.setdefault(topic, set()).add((partition, offset))
    return wanted


def _behind(manifest: Manifest, topic: str) -> Behind:
    """Whether a checkpoint is one that the backup does not hold: it will be made again, with what it wrote.

    Only a station that writes the topic by itself is asked: headers travel, where somebody copies records into another topic.
    """
    numbers = {task: stand.number for task, stand in manifest.tasks.items()}
    writers = BY_NAME[topic].writers

    def behind(task: str, number: int) -> bool:
        return number > numbers.get(task, 0) and ("all" in writers or _station(task) in writers)

    return behind


def _station(task: str) -> str:
    role, group, _ = task.split("|")
    if group.startswith("sources."):
        return "ingest"
    return "dispatch" if group == "commands" else role


def _waiting(manifest: Manifest, mapped: Mapped) -> int:
    waiting = 0
    for task, stand in manifest.tasks.items():
        partition = int(task.rpartition("|")[2])
        for topic, offset in stand.next.items():
            if (moved := mapped.get(topic)) is not None:
                waiting += moved.rows.get(partition, 0) - moved.to(partition, offset)
    return waiting


def _repositioned(mapped: Mapped) -> Change:
    """Positions of a state in the offsets of the new topics; those of a source topic that was left alone stay."""

    def change(partition: int, key: bytes | None, value: bytes | None) -> KeyValue:
        if key is None or value is None or not key.startswith(POSITIONS):
            return key, value
        before = decode_positions(value)
        places = {}
        for topic, offset in before.next.items():
            moved = mapped.get(topic)
            # Positions of earlier checkpoints are written too, and mapped to nothing: those of the last one count.
            places[topic] = offset if moved is None else moved.to(partition, offset)
        return key, encode_positions(msgspec.structs.replace(before, next=places))

    return change


async def _model(settings: Settings, place: Place, manifest: Manifest, mapped: Mapped) -> int:
    marks = {
        (topic, partition, offset): mapped[topic].to(partition, offset)
        for topic, partition, offset in await model.read_marks(place, manifest.model)
    }
    store = await open_store(settings.store_url)
    try:
        return await model.load(store, place, manifest.model, marks)
    finally:
        await store.close()


async def _make(settings: Settings, names: Iterable[str]) -> None:
    """Topics that keep the times they are given, and everything, while they are filled."""
    specs = [BY_NAME[name] for name in names]
    new = [
        NewTopic(
            settings.topic(spec.name),
            declared.wanted(spec, settings),
            settings.replication,
            replica_assignments={} if settings.replication == -1 else None,
            topic_configs=spec.config() | _filling(spec),
        )
        for spec in specs
    ]
    await _create(settings, new)


async def _make_source(settings: Settings, name: str, partitions: int) -> None:
    assignments: dict[int, list[int]] | None = {} if settings.replication == -1 else None
    await _create(settings, [NewTopic(name, partitions, settings.replication, replica_assignments=assignments)])


async def _create(settings: Settings, new: list[NewTopic]) -> None:
    async with admin(settings) as made:
        answer = await made.create_topics(new)
        for topic, code, *message in answer.topic_errors:
            if code:
                raise RestoreFailed(
                    f"Kafka would not create {topic}: {for_code(code).__name__} {' '.join(map(str, message))}"
                )
        await declared.led(settings, [topic.name for topic in new])


def _filling(spec: TopicSpec) -> dict[str, str]:
    keep = {"retention.ms": "-1"} if "delete" in spec.cleanup else {}
    return {"message.timestamp.type": "CreateTime", **keep}


async def _check(settings: Settings, mapped: Mapped) -> None:
    """A new offset is a count of rows: right only while the log ends where that many rows end."""
    async with consumer(settings) as made:
        for name, moved in mapped.items():
            full = settings.topic(name) if name in BY_NAME else name
            wanted = {TopicPartition(full, p): rows for p, rows in moved.rows.items()}
            ends = await ends_of(made, wanted)
            wrong = [tp for tp, rows in wanted.items() if ends[tp] != rows]
            if wrong:
                raise RestoreFailed(
                    f"{wrong[0].topic}/{wrong[0].partition} ends at {ends[wrong[0]]} instead of {wanted[wrong[0]]}: did somebody "
                    "else write? `uptake reset --everything`, then restore again"
                )


async def _configure(settings: Settings, names: Iterable[str], *, now: int, cut: int) -> None:
    """The declared configuration. Rows are kept longer by the backup's age, else retention would take what nobody has read."""
    resources = []
    for name in names:
        spec = BY_NAME.get(name)
        if spec is None:
            continue
        config = spec.config()
        if "retention.ms" in config:
            config["retention.ms"] = str(spec.retention_ms + max(0, now - cut))
        resources.append(ConfigResource(ConfigResourceType.TOPIC, settings.topic(name), config))
    async with admin(settings) as made:
        for answer in await made.alter_configs(resources):
            for code, message, _, topic in answer.resources:
                if code:
                    raise RestoreFailed(f"Kafka would not configure {topic}: {for_code(code).__name__} {message or ''}")


def _now() -> int:
    return time.time_ns() // 1_000_000
