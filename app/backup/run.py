"""Making a backup, while everything runs.

First what is new is copied, which may take long; then the cut is made, which takes a moment. A cut is one because of its order:
whoever reads is copied before whoever writes for him. So no state in it knows a record whose writer's state does not know it;
what a writer wrote behind his state is dropped by its number (header `uptake-checkpoint`) when the backup is restored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition

from app.backup import manifest as manifests
from app.backup import model
from app.backup.copying import Copier, Growing
from app.backup.manifest import Manifest, State
from app.backup.place import RESTORES, Place, PlaceError
from app.definitions import load as load_definitions
from app.kafka import MissingTopic, admin, bootstrap, partition_counts, security_of
from app.settings import Settings
from app.store import open_store
from app.store.tables import SCHEMA_VERSION
from core.ingest import sources_of
from schemas.topics import TOPICS
from transport.logs import LogReader

CUT_ORDER: Final = {
    "state.deliver": "deliver",
    "state.dispatch": "deliver",
    "state.orchestrate": "orchestrate",
    "state.decide.outcomes": "decide",
    "state.decide.registers": "decide",
    "state.decide.signals": "decide",
    "state.meter": "meter",
    "state.meter.others": "meter",
    "state.ingest": "meter",
}
"""State topics with their roles, readers before their writers. The read model comes before all of them, logs and
definitions after.
"""
SOURCES: Final = "state.ingest"

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What a backup came to."""

    manifest: Manifest
    new_rows: int
    """Rows of topics that were not in the backup before."""
    cut_ms: int
    """How long the cut took."""

    def line(self) -> str:
        """For people."""
        found = self.manifest
        kind = "full" if found.parent is None else f"on top of {found.parent}"
        return (
            f"{found.id}: {kind}, {self.new_rows:,} new rows of {found.rows:,}, {found.written:,} bytes written in "
            f"{(found.finished - found.began) / 1000:.1f} s, cut in {self.cut_ms} ms"
        )


async def backup(settings: Settings, place: Place, *, full: bool = False, told: Told = lambda text: None) -> Made:
    """Make one. Raises `PlaceError`, `NoKafka`, `MissingTopic`, `StoreError`, `Unreadable`, `LogStalled`, `StateFormatError`."""
    began = _now()
    cluster = await _cluster(settings)
    before = None if full else await _before(settings, place, cluster)
    ident = manifests.name_of(began)
    catalogue = await load_definitions(settings)
    foreign = sorted(sources_of(catalogue))
    counts = await partition_counts(settings, [*(settings.topic(t.name) for t in TOPICS), *foreign])
    missing = [t.name for t in TOPICS if settings.topic(t.name) not in counts]
    if missing:
        raise MissingTopic(
            f"topics are missing ({missing[0]} …): there is nothing whole to back up; `uptake topics create`"
        )
    ours = {
        t.name: Growing(
            settings.topic(t.name),
            counts[settings.topic(t.name)],
            role=CUT_ORDER.get(t.name),
        )
        for t in TOPICS
    }
    theirs = {name: Growing(name, counts[name]) for name in foreign if name in counts}
    store = await open_store(settings.store_url)
    try:
        async with LogReader(bootstrap(settings), security=security_of(settings)) as reader:
            copier = Copier(reader, place, ident)
            for name, topic in ours.items():
                copied, state = (
                    (before.topics.get(name), before.states.get(name)) if before is not None else (None, None)
                )
                await copier.add(topic, copied, state)
            for name, topic in theirs.items():
                await copier.add(topic, before.sources.get(name) if before is not None else None)
            old_rows = sum(s.rows for t in (*ours.values(), *theirs.values()) for s in t.segments)
            states = [ours[name] for name in CUT_ORDER]
            logs = [topic for name, topic in ours.items() if name not in CUT_ORDER]
            told("copying what is new")
            await copier.advance(states)
            starts = _source_starts(theirs, ours[SOURCES])
            await copier.advance([*logs, *theirs.values()], starts)
            told("making the cut")
            at = _now()
            async with model.frozen(store) as then:
                for topic in states:
                    await copier.advance([topic])
                await copier.advance([*logs, *theirs.values()], starts)
                cut_ms = _now() - at
                await copier.flush()
                tables, written = await model.save(then, place, before.model if before is not None else {})
    finally:
        await store.close()
    everything = [*ours.values(), *theirs.values()]
    made = Manifest(
        id=ident,
        parent=before.id if before is not None else None,
        began=began,
        at=at,
        finished=_now(),
        prefix=settings.topic_prefix,
        partitions=settings.partitions,
        cluster=cluster,
        topics={name: topic.copy() for name, topic in ours.items()},
        sources={name: topic.copy() for name, topic in theirs.items()},
        states={name: State(ends=ours[name].ends, tasks=ours[name].tasks) for name in CUT_ORDER},
        model=tables,
        model_version=SCHEMA_VERSION,
        written=written + sum(topic.written for topic in everything),
    )
    await manifests.save(place, made)
    return Made(made, made.rows - old_rows, cut_ms)


async def _before(settings: Settings, place: Place, cluster: str) -> Manifest | None:
    """The backup to go on from. Raises `PlaceError` where the place belongs to another deployment."""
    known = await manifests.ids(place)
    if not known:
        return None
    newest = await manifests.load(place, known[-1])
    if newest.prefix != settings.topic_prefix:
        raise PlaceError(
            f"{place.url} holds backups of topic prefix {newest.prefix!r}, this is {settings.topic_prefix!r}: "
            "name another place for these"
        )
    # A restore gives every row a new offset: copies made before it do not go on.
    restored = [name.removeprefix(RESTORES) for name in await place.names(RESTORES)]
    same = newest.cluster == cluster and newest.partitions == settings.partitions
    return newest if same and not any(name > newest.id for name in restored) else None


def _source_starts(theirs: dict[str, Growing], ingest: Growing) -> dict[TopicPartition, int]:
    """Rows of others that became events already are in the events."""
    starts: dict[TopicPartition, int] = {}
    for task, stand in ingest.tasks.items():
        partition = int(task.rpartition("|")[2])
        for topic, offset in stand.next.items():
            if topic in theirs:
                starts[TopicPartition(topic, partition)] = offset
    return starts


async def _cluster(settings: Settings) -> str:
    async with admin(settings) as client:
        return str((await client.describe_cluster()).get("cluster_id") or "")


def _now() -> int:
    return time.time_ns() // 1_000_000
