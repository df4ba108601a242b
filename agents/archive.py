"""archive: the log → files. A group of its own: where its disk is full, it alone falls behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from agents.patience import Patience
from agents.rooms import Archive, Rooms
from core.archive import TOPICS, Chunk, Keeper
from core.archive_forgetting import without
from core.batch import Batch
from core.effects import NOTHING, Count, Effect
from core.forgetting import Forgetting
from core.task import StateRecord, TaskSpec

MAX_ROWS: Final = 200_000
MAX_BYTES: Final = 32 << 20
"""A file is written when it is that large."""
MAX_HELD: Final = 256 << 20
"""Bytes that wait for their files in one process; beyond it, everything is written."""
PRUNE_EVERY_S: Final = 3_600.0


class Archiving:
    """One partition's task. Its state is the files; what waits for one is read again by the next owner."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.chunks: dict[str, Chunk] = {}
        self.next: dict[str, int] = {}
        """Topic → offset behind the last row taken."""
        self.since: int | None = None
        """When the oldest row that waits came (wall time, milliseconds)."""
        self.writing = asyncio.Lock()
        """Held while the partition's files are written, or written again."""
        self.forgot = 0
        """Version of whom to forget up to which the files are without them."""
        self._keeper = Keeper()

    def load(self, key: bytes, value: bytes | None) -> None:
        """There is no state topic."""

    def loaded(self) -> None:
        """Nothing to do."""

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Keep the batch's rows until their file is due."""
        chunk = self.chunks.setdefault(batch.topic, Chunk(batch.topic, batch.partition))
        for row, value in enumerate(batch.values):
            if self._keeper.keep(batch, row):
                chunk.add(
                    int(batch.offsets[row]),
                    int(batch.timestamps[row]),
                    batch.rows.key(row),
                    value,
                    batch.headed.get(row, ()),
                )
        self.next[batch.topic] = batch.next_offset
        return [Count("uptake_archive_rows_total", len(batch), (batch.topic,))]

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Files are written by the agent, which can wait."""
        return NOTHING

    def wake_at(self) -> int | None:
        """Never needed."""
        return None

    def drain(self) -> list[StateRecord]:
        """Nothing is kept in Kafka."""
        return []

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(chunk.size for chunk in self.chunks.values())

    @property
    def full(self) -> bool:
        """Whether a file is large enough."""
        return self.size >= MAX_BYTES or sum(map(len, self.chunks.values())) >= MAX_ROWS

    def take(self) -> tuple[list[Chunk], dict[str, int]]:
        """What waits, and the positions behind it; from then on it is the caller's."""
        taken, self.chunks, self.since = [c for c in self.chunks.values() if len(c)], {}, None
        return taken, dict(self.next)


def spec(archive: Archive) -> TaskSpec:
    """All keyed topics that are kept, together; positions lie beside the files."""
    return TaskSpec(
        role="archive",
        group="log",
        topics=TOPICS,
        make=Archiving,
        state_topic=None,
        positions=archive.positions,
    )


def attach(app: Any, rooms: Rooms) -> None:
    """Adds the agent, and the timers that write what has waited long enough, copy definitions, forget whom to forget and
    delete old files.
    """
    archive = rooms.archive
    if archive is None:
        raise ValueError("the archive role needs rooms.archive: give Rooms an app.archive.Writer")
    patience = Patience(rooms, "archive", "uptake_archive_up", ())
    rooms.degraded.append(patience.degraded)
    made = spec(archive)

    forgotten = Forgetting(rooms.catalogue)

    def live() -> list[Archiving]:
        return [task for task in rooms.wires.live(made) if isinstance(task, Archiving)]

    def taken(task: Archiving) -> tuple[list[Chunk], dict[str, int]]:
        """What waits, without whom to forget by now."""
        chunks, positions = task.take()
        left = [without(chunk, forgotten) for chunk in chunks]
        counted(sum(map(len, chunks)) - sum(map(len, left)))
        return [chunk for chunk in left if len(chunk)], positions

    def counted(rows: int) -> None:
        if rows:
            rooms.wires.measure([Count("uptake_forgotten_total", rows, ("archive",))])

    async def put(task: Archiving) -> None:
        async with task.writing:
            chunks, positions = taken(task)
            if not positions:
                return
            written = 0

            async def write() -> None:
                nonlocal written
                written = await archive.write(task.partition, chunks, positions)

            await patience.until_done(write)
            rooms.wires.measure(
                [
                    Count("uptake_archive_files_total", len(chunks)),
                    Count("uptake_archive_bytes_total", written),
                ]
            )

    async def archiving(stream: Any) -> None:
        async for task, batch in rooms.wires.batches(stream):
            effects = rooms.wires.step(task, batch)
            if effects is None or not isinstance(task, Archiving):
                continue
            task.since = rooms.now() if task.since is None else task.since
            if task.full:
                await put(task)
            elif sum(other.size for other in live()) > MAX_HELD:
                for other in live():
                    await put(other)
            rooms.wires.perform(task, batch, effects)

    async def due() -> None:
        for task in live():
            if task.since is not None and rooms.now() - task.since >= 1_000 * archive.roll_s:
                await put(task)

    async def definitions() -> None:
        for task in live():
            if task.partition == 0:
                async with task.writing:
                    await patience.once(partial(archive.definitions, forgotten))

    async def forget() -> None:
        """Whoever writes a partition's files rewrites them: no row that waited meanwhile comes back behind it."""
        for task in live():
            if task.forgot == forgotten.version:
                continue
            async with task.writing:
                version = forgotten.version

                async def rewrite(task: Archiving = task) -> None:
                    counted(await archive.forget(task.partition, forgotten))

                if await patience.once(rewrite):
                    task.forgot = version

    async def old() -> None:
        if any(task.partition == 0 for task in live()):
            await patience.once(archive.prune)

    async def close() -> None:
        """What waits now would be read again by the next owner: writing it is a kindness, not a duty, so it is tried once."""
        for task in live():
            async with task.writing:
                chunks, positions = taken(task)
                if positions:
                    await patience.once(partial(archive.write, task.partition, chunks, positions))
        await definitions()

    rooms.closers.append(close)
    app.agent(rooms.wires.channel(app, made), name="archive")(archiving)
    app.timer(interval=min(1.0, archive.roll_s), name="archive-due")(due)
    app.timer(interval=archive.roll_s, name="archive-definitions")(definitions)
    app.timer(interval=1.0, name="archive-forget")(forget)
    app.timer(interval=PRUNE_EVERY_S, name="archive-prune")(old)
