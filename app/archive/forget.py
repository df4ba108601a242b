"""Files written again without rows about subjects that are to be forgotten.

Beside the files lies, a partition, whom they are without and when files that were written again had been written first: a file
is deleted by its age whoever has been taken out of it since.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Final

from polars.exceptions import PolarsError
from pydantic import BaseModel

from app.archive.files import chunk_of, pack, unpack
from app.backup.place import Place, PlaceError
from core.archive import File, read_name
from core.archive_forgetting import names_people, without
from core.forgetting import Forgetting

log = logging.getLogger(__name__)
FOLDER: Final = "forgotten/"


class Done(BaseModel):
    """Of one partition."""

    digests: set[str] = set()
    """Whom its files are without, as `core.forgetting.Forgetting.digests` has them."""
    written: dict[str, float] = {}
    """File → when it was written first, milliseconds; of those that were written again."""


async def rewrite(place: Place, partition: int, forgotten: Forgetting) -> int:
    """Take out whom the partition's files are not without yet; how many rows went. Raises `PlaceError`; it goes on from there
    when it is called again.
    """
    asked = forgotten.digests
    done = await read_done(place, partition)
    if asked <= done.digests:
        return 0
    still, rows = forgotten.still(), 0
    times = await place.written("")
    done.written = {name: at for name, at in done.written.items() if name in times}
    files = [file for file in map(read_name, times) if file is not None and file.partition == partition]
    for file in sorted(files):
        if not names_people(file.topic):
            continue
        content = await place.get(file.name)
        gone, left = await asyncio.to_thread(_without, file, content, still)
        if left is None:
            continue
        done.written.setdefault(file.name, times[file.name])
        await _write(place, partition, done)  # first: the file's own time is lost with its rows
        await place.replace(file.name, left)
        rows += gone
    done.digests |= asked
    await _write(place, partition, done)
    if rows:
        log.info("%d rows about forgotten subjects are taken out of the archive's partition %d", rows, partition)
    return rows


async def read_done(place: Place, partition: int) -> Done:
    """Raises `PlaceError`."""
    name = _name(partition)
    return Done.model_validate_json(await place.get(name)) if await place.has(name) else Done()


async def first_written(place: Place) -> dict[str, float]:
    """When files that were written again had been written first. Raises `PlaceError`."""
    found: dict[str, float] = {}
    for name in await place.names(FOLDER):
        found |= Done.model_validate_json(await place.get(name)).written
    return found


def _without(file: File, content: bytes, forgotten: Forgetting) -> tuple[int, bytes | None]:
    """How many rows go, and the file without them; None where nothing changes. It keeps its name, even where no row is left:
    names say how far the log was copied.
    """
    try:
        chunk = chunk_of(unpack(content), file.topic, file.partition)
    except PolarsError as error:
        raise PlaceError(
            f"{file.name} cannot be read: {str(error).splitlines()[0]}; delete it or put it right"
        ) from error
    left = without(chunk, forgotten)
    return (0, None) if left is chunk else (len(chunk) - len(left), pack(left))


async def _write(place: Place, partition: int, done: Done) -> None:
    body = {"digests": sorted(done.digests), "written": done.written}
    await place.replace(_name(partition), json.dumps(body).encode())


def _name(partition: int) -> str:
    return f"{FOLDER}{partition:05}.json"
