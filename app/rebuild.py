"""Rebuilding: METER's and DECIDE's figures made again from the log under the next version's names, beside those in force.

The rebuilding workers are in consumer groups of their own, with transactional ids of their own; what they say to others (commands,
receipts, dead letters) goes to topics that nobody reads. They end with their last checkpoint before the version may be taken
into force, so what they kept apart, the version in force has said, and what comes behind their positions is said by whoever goes on
from them. Ids derive from inputs: what both say is recognised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from app import topics
from app.kafka import MissingTopic, admin, bootstrap, committed_of, consumer, ends_of, partitions_of, read
from app.settings import Role, Settings
from app.worker import Supervisor, worker_children
from schemas.events import EVENTS
from schemas.topics import SAID, renamed

Told = Callable[[str], None]
ROLES: tuple[Role, ...] = ("meter", "decide")
READ: Mapping[Role, tuple[str, ...]] = {
    "meter": tuple(EVENTS),
    "decide": ("meter.registers", "signals", "outcome.parts"),
}
LOOK_S = 0.5
SHORT_S = 15.0
"""A round of catching up that took no longer than this was the last: what came meanwhile is worked as fast again."""
COMPARED = ("tables.adoption", "tables.health")
_MARKS = 2
"""Offsets behind the last row of a transactional topic that are marks of its end."""


class CannotRebuild(RuntimeError):
    """The message names the next move."""


@dataclass(slots=True)
class Compared:
    """A table in both versions, by its newest rows."""

    old: int = 0
    new: int = 0
    differing: int = 0
    """Keys of either whose rows differ, or that the other does not have."""


@dataclass(slots=True)
class Rebuilt:
    """What came of it."""

    figures: int
    tables: dict[str, Compared] = field(default_factory=dict)
    commands: int = 0
    """That the new version leads to, and nobody acts on."""
    new_commands: int = 0
    """Those of them that the version in force has not given."""


def beside(settings: Settings) -> Settings:
    """The settings of those who make the next version."""
    figures = settings.figures + 1
    return settings.model_copy(
        update={
            "kafka": bootstrap(settings),
            "data_dir": settings.data_dir / f"rebuild-v{figures}",
            "metrics_port": 0,
            "figures": figures,
            "rebuilding": True,
        }
    )


async def rebuild(
    settings: Settings,
    counts: Mapping[Role, int],
    *,
    anew: bool = False,
    within_s: float = 86_400.0,
    told: Told = lambda text: None,
) -> Rebuilt:
    """Make the next version until it has caught up with the log, compare it, and end. Repeated after an interruption, it goes on.

    `anew`: throw away what an earlier rebuild made of that version. Raises `CannotRebuild`, `WorkerFailed`, `NoKafka`,
    `MissingTopic`.
    """
    new = beside(settings)
    await _refuse_in_force(settings, new)
    await _delete(settings, [_mark(new)])
    if anew:
        await _delete(settings, [f"{settings.topic_prefix}{name}" for name in new.renamed.values()])
    await topics.create(new)
    supervisor = Supervisor(worker_children(new, counts), told=lambda name, text: told(f"{name} | {text}"))
    supervisor.start()
    failing = asyncio.ensure_future(supervisor.wait())
    catching = asyncio.ensure_future(_caught_up(new, told))
    try:
        done, _ = await asyncio.wait({failing, catching}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()
        if catching not in done:
            raise CannotRebuild(
                f"version {new.figures} has not caught up in {within_s:.0f} s: run it again, it goes on"
            )
    finally:
        catching.cancel()
        await supervisor.stop()
        failing.cancel()
        await asyncio.gather(failing, catching, return_exceptions=True)
    made = await _compare(settings, new)
    async with admin(settings) as client:
        answer = await client.create_topics(
            [NewTopic(_mark(new), 1, settings.replication, replica_assignments=_own(new))]
        )
        for topic, code, *_ in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise CannotRebuild(f"Kafka would not create {topic}: {for_code(code).__name__}; run it again")
    return made


async def require_made(settings: Settings) -> None:
    """Raises `MissingTopic` where the version in force, according to the settings, was never made to its end."""
    if settings.figures > 1 and not settings.rebuilding:
        async with admin(settings) as client:
            if _mark(settings) in await client.list_topics():
                return
        raise MissingTopic(
            f"there are no figures of version {settings.figures}: make them with `uptake rebuild` under "
            f"UPTAKE_FIGURES={settings.figures - 1}; in a new or restored cluster leave UPTAKE_FIGURES out"
        )


async def drop_old(settings: Settings) -> list[str]:
    """Delete the topics of all versions before the one in force, and what was kept apart; gives their names.

    Raises `CannotRebuild` where Kafka refuses, `MissingTopic` as `require_made`.
    """
    await require_made(settings)
    names = set(renamed(settings.figures, True).values()) - set(settings.renamed.values())
    for version in range(1, settings.figures):
        former = settings.model_copy(update={"figures": version})
        names |= {former.topic(name).removeprefix(settings.topic_prefix) for name in settings.renamed}
        names |= {f"{name}.v{version}" for name in SAID if version > 1} | {_bare_mark(version)}
    return await _delete(settings, [f"{settings.topic_prefix}{name}" for name in sorted(names)])


async def _delete(settings: Settings, full: Iterable[str]) -> list[str]:
    """Those that exist; waits until they are gone."""
    async with admin(settings) as client:
        gone = sorted(set(full) & set(await client.list_topics()))
        if gone:
            answer = await client.delete_topics(gone)
            for topic, code in answer.topic_error_codes:
                if code and for_code(code) is not UnknownTopicOrPartitionError:
                    raise CannotRebuild(f"Kafka would not delete {topic}: {for_code(code).__name__}")
        while set(gone) & set(await client.list_topics()):
            await asyncio.sleep(0.1)
    return gone


async def _refuse_in_force(settings: Settings, new: Settings) -> None:
    """Whoever works on a version that is in force would keep apart what must be said."""
    await require_made(settings)
    theirs = {f"{settings.topic_prefix}{name}" for name in new.renamed.values()}
    if any(tp.topic in theirs for tp in await committed_of(settings, f"{settings.topic_prefix}decide")):
        raise CannotRebuild(
            f"version {new.figures} is, or was, in force: set UPTAKE_FIGURES={new.figures}, then `uptake rebuild` makes the next one"
        )


async def _caught_up(new: Settings, told: Told) -> None:
    """Until everything that stood in the log at some moment, little ago, is in the figures of the last checkpoints."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        for role in ROLES:
            async with _looking(new) as look:
                places = await partitions_of(new, READ[role])
                ends = await ends_of(look, places)
                while (left := await _left(new, role, ends)) > 0:
                    told(f"{role}: {left:,} rows to go")
                    await asyncio.sleep(LOOK_S)
        if loop.time() - began <= SHORT_S:
            return


@asynccontextmanager
async def _looking(settings: Settings) -> AsyncIterator[Any]:
    async with consumer(settings) as made:
        yield made


async def _left(new: Settings, role: Role, ends: Mapping[TopicPartition, int]) -> int:
    committed = await committed_of(new, f"{new.topic_prefix}{role}.v{new.figures}")
    left = 0
    for place, end in ends.items():
        found = committed.get(place)
        behind = end - (found.offset if found is not None and found.offset > 0 else 0)
        left += behind if role == "meter" or behind > _MARKS else 0
    return left


async def _compare(settings: Settings, new: Settings) -> Rebuilt:
    made = Rebuilt(new.figures)
    for table in COMPARED:
        old_rows, new_rows = await _newest(settings, table), await _newest(new, table)
        differing = sum(old_rows.get(key) != new_rows.get(key) for key in old_rows.keys() | new_rows.keys())
        made.tables[table] = Compared(len(old_rows), len(new_rows), differing)
    given, found = await _commands(settings), await _commands(new)
    made.commands, made.new_commands = len(found), len(found - given)
    return made


async def _newest(settings: Settings, table: str) -> dict[bytes, int]:
    """Key → what its newest row says, as a number; how often it was published does not count."""
    rows: dict[bytes, int] = {}
    async for record in read(settings, [table]):
        if record.key is not None and record.value is not None:
            said = {name: value for name, value in orjson.loads(record.value).items() if name != "version"}
            rows[record.key] = hash(orjson.dumps(said, option=orjson.OPT_SORT_KEYS))
    return rows


async def _commands(settings: Settings) -> set[str]:
    wanted = [name for name in SAID if name.startswith("commands.")]
    return {orjson.loads(r.value)["id"] async for r in read(settings, wanted) if r.value is not None}


def _bare_mark(figures: int) -> str:
    return f"figures.v{figures}"


def _mark(settings: Settings) -> str:
    """An empty topic that says: this version was made to its end."""
    return f"{settings.topic_prefix}{_bare_mark(settings.figures)}"


def _own(settings: Settings) -> dict[int, list[int]] | None:
    return {} if settings.replication == -1 else None
