"""Writing the archive: what the role `archive` is given as `agents.rooms.Archive`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence

from agents.rooms import Unavailable, wall_clock
from app.archive.files import pack
from app.archive.forget import first_written, rewrite
from app.backup.place import Place, PlaceError
from app.kafka import KafkaError, MissingTopic, NoKafka, read
from app.settings import Settings
from core.archive import Chunk, read_name
from core.archive_forgetting import DEFINITIONS, without
from core.forgetting import Forgetting

log = logging.getLogger(__name__)
POSITIONS = "positions/"
DAY_MS = 86_400_000


class Writer:
    """One process's way into the archive. Every call raises `agents.rooms.Unavailable`."""

    def __init__(self, settings: Settings) -> None:
        self.roll_s = settings.archive_roll_s
        self._settings = settings
        self._place: Place | None = None
        self._defined: int | None = None
        """Last offset of `definitions` that is in the archive."""

    async def positions(self, partition: int) -> Mapping[str, int]:
        """Where to go on: topic → next offset of this partition."""
        try:
            name = _positions(partition)
            if not await self.place.has(name):
                return {}
            found: dict[str, int] = json.loads(await self.place.get(name))
        except PlaceError as error:
            raise Unavailable(str(error)) from error
        return found

    async def write(self, partition: int, chunks: Sequence[Chunk], positions: Mapping[str, int]) -> int:
        """A file a chunk, and then the positions behind them; how many bytes. Writing a chunk again replaces its file."""
        written = 0
        try:
            before = await self.positions(partition)
            for chunk in chunks:
                content = await asyncio.to_thread(pack, chunk)
                await self.place.replace(chunk.name, content)
                written += len(content)
            await self.place.replace(_positions(partition), json.dumps({**before, **positions}).encode())
        except PlaceError as error:
            raise Unavailable(str(error)) from error
        return written

    async def definitions(self, forgotten: Forgetting | None = None) -> None:
        """Copy what is new on the topic `definitions`, without the names of whom to forget."""
        try:
            if self._defined is None:
                names = map(read_name, await self.place.names(f"{DEFINITIONS}/"))
                self._defined = max((f.last for f in names if f is not None), default=-1)
            chunk = Chunk(DEFINITIONS, 0)
            async for record in read(self._settings, [DEFINITIONS]):
                if record.offset > self._defined:
                    chunk.add(record.offset, record.timestamp, record.key, record.value, record.headers)
            if not len(chunk):
                return
            left = without(chunk, forgotten) if forgotten is not None else chunk
            await self.place.replace(chunk.name, pack(left))
            self._defined = chunk.offsets[-1]
        except (PlaceError, NoKafka, MissingTopic, KafkaError) as error:
            raise Unavailable(str(error)) from error

    async def forget(self, partition: int, forgotten: Forgetting) -> int:
        """Write files again without rows about subjects that it was not asked to forget before; how many rows went."""
        if not forgotten.version:
            return 0
        try:
            return await rewrite(self.place, partition, forgotten)
        except PlaceError as error:
            raise Unavailable(str(error)) from error

    async def prune(self) -> int:
        """Delete files that are older than is kept; how many went. Definitions stay: older rows than the oldest ask for them."""
        days = self._settings.archive_days
        if not days:
            return 0
        try:
            written = await self.place.written("")
            written |= {name: at for name, at in (await first_written(self.place)).items() if name in written}
            before = wall_clock() - days * DAY_MS
            old = sorted(name for name, at in written.items() if at < before)
            gone = [n for n in old if (f := read_name(n)) is not None and f.topic != DEFINITIONS]
            await self.place.delete(gone)
        except PlaceError as error:
            raise Unavailable(str(error)) from error
        if gone:
            log.info("%d files older than %d days are deleted from the archive", len(gone), days)
        return len(gone)

    @property
    def place(self) -> Place:
        """Where the files lie. Raises `PlaceError`."""
        if self._place is None:
            self._place = Place(self._settings.archive_place)
        return self._place


def _positions(partition: int) -> str:
    return f"{POSITIONS}{partition:05}.json"
