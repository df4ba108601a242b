"""Reading the archive: rows of a topic's partition in offset order, each once, whatever files overlap."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator

import polars as pl
from polars.exceptions import PolarsError

from app.archive.files import unpack
from app.backup.place import Place, PlaceError
from core.archive import File, read_name


class ArchiveError(RuntimeError):
    """The archive cannot be read, or rows are missing in it; the message names the next move."""


class Archived:
    """An archive as it was when it was opened."""

    def __init__(self, place: Place, files: list[File]) -> None:
        self._place = place
        self.files: dict[tuple[str, int], list[File]] = defaultdict(list)
        for file in sorted(files):
            self.files[file.topic, file.partition].append(file)

    @classmethod
    def open(cls, url: str) -> Archived:
        """Lists the files. Raises `ArchiveError` where there are none."""
        try:
            place = Place(url)
            names = asyncio.run(place.names(""))
        except PlaceError as error:
            raise ArchiveError(str(error)) from error
        files = [file for file in map(read_name, names) if file is not None]
        if not files:
            raise ArchiveError(f"no archive in {url}: start the role `archive` (`uptake worker --roles archive`)")
        return cls(place, files)

    def partitions(self, topic: str) -> list[int]:
        """Partitions of which there are files, sorted."""
        return sorted(partition for name, partition in self.files if name == topic)

    def frames(self, topic: str, partition: int, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """The rows, file by file; a row that stands in two files comes once. Raises `ArchiveError`."""
        taken = -1
        wanted = None if columns is None else sorted({"offset", *columns})
        for file in self.files.get((topic, partition), ()):
            if file.last <= taken:
                continue
            try:
                frame = unpack(self._content(file.name), wanted)
            except (PlaceError, PolarsError) as error:
                raise ArchiveError(f"{file.name} cannot be read: {str(error).splitlines()[0]}") from error
            if file.first <= taken:
                frame = frame.filter(pl.col("offset") > taken)
            taken = file.last
            yield frame

    def _content(self, name: str) -> bytes:
        """A file's bytes. Raises `PlaceError`."""
        found: list[bytes] = []

        async def get() -> None:
            # Not returned: `asyncio.run` looks for its own signal handler by a repr of it, in which a task's whole result stands.
            found.append(await self._place.get(name))

        asyncio.run(get())
        return found[0]

    def rows(self, topic: str) -> Iterator[tuple[int, int, bytes | None, bytes | None]]:
        """(timestamp, partition, key, value) of all rows of a topic, partition after partition."""
        for partition in self.partitions(topic):
            for frame in self.frames(topic, partition, ["timestamp", "key", "value"]):
                for timestamp, key, value in frame.select("timestamp", "key", "value").iter_rows():
                    yield timestamp, partition, key, value
