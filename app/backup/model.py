"""The read model in a backup: every table's rows in parts whose borders follow the keys, so that what did not change is the same
file as before and is not written again.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import polars as pl
from sqlalchemy import BigInteger, Boolean, Double, Integer, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.backup.manifest import Segment
from app.backup.manifest import Table as Saved
from app.backup.place import Place, checksum
from app.backup.segments import encode, read_frame
from app.store import Store
from app.store.tables import METADATA

PART_ROWS: Final = 4_096
"""About so many rows a part; borders are keys whose hash says so."""
MOST_ROWS: Final = 8 * PART_ROWS
FETCHED: Final = 2_000
FOLDER: Final = "read-model/"
MARKS: Final = "positions"
"""The table whose offsets are of the old cluster."""


class ModelNotEmpty(RuntimeError):
    """There are rows already; the message names the next move."""


@asynccontextmanager
async def frozen(store: Store) -> AsyncIterator[AsyncConnection]:
    """A connection that sees the read model as it is now, whatever is written meanwhile."""
    async with store.reader.connect() as connection:
        if store.dialect == "postgresql":
            connection = await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            await connection.execute(
                select(METADATA.tables[MARKS]).limit(1)
            )  # the moment is that of the first statement
            yield connection


async def save(connection: AsyncConnection, place: Place, before: Mapping[str, Saved]) -> tuple[dict[str, Saved], int]:
    """Every table but `meta`, and how many bytes had to be written. `before`: the tables of an earlier backup in that place."""
    there = {part.sha256: part for table in before.values() for part in table.parts}
    saved: dict[str, Saved] = {}
    written = 0
    for table in _tables():
        parts: list[Segment] = []
        async for rows in _parts(connection, table):
            content = encode(pl.DataFrame(rows, schema=_schema(table), orient="row"))
            digest = checksum(content)
            part = there.get(digest)
            if part is None:
                name = f"{FOLDER}{table.name}/{digest}.parquet"
                part = there[digest] = Segment(name=name, sha256=digest, size=len(content), rows=len(rows))
                if not await place.has(name):
                    await place.put(name, content)
                    written += len(content)
            parts.append(part)
        saved[table.name] = Saved(parts=parts)
    return saved, written


async def refuse_rows(store: Store) -> None:
    """Raises `ModelNotEmpty` where any table holds a row."""
    async with store.reader.begin() as connection:
        for table in _tables():
            if (await connection.execute(select(table).limit(1))).first() is not None:
                raise ModelNotEmpty(
                    f"the read model holds rows already ({table.name}): `uptake reset --everything` empties it, "
                    "or name another one in UPTAKE_DATABASE_URL"
                )


async def load(
    store: Store, place: Place, saved: Mapping[str, Saved], marks: Mapping[tuple[str, int, int], int]
) -> int:
    """Fill the empty read model, in one transaction; how many rows. `marks`: (topic, partition, old offset) → new offset."""
    count = 0
    async with store.writer.begin() as connection:
        for table in _tables():
            for part in saved[table.name].parts if table.name in saved else ():
                rows = (await read_frame(place, part)).to_dicts()
                if table.name == MARKS:
                    for row in rows:
                        row["next_offset"] = marks[row["topic"], row["partition"], row["next_offset"]]
                for start in range(0, len(rows), FETCHED):
                    await connection.execute(table.insert(), rows[start : start + FETCHED])
                count += len(rows)
    return count


async def read_marks(place: Place, saved: Mapping[str, Saved]) -> list[tuple[str, int, int]]:
    """(topic, partition, offset) up to which the saved read model had read."""
    found: list[tuple[str, int, int]] = []
    for part in saved[MARKS].parts if MARKS in saved else ():
        found += (await read_frame(place, part)).select("topic", "partition", "next_offset").rows()
    return found


def _tables() -> list[Table]:
    return [table for name, table in sorted(METADATA.tables.items()) if name != "meta"]


async def _parts(connection: AsyncConnection, table: Table) -> AsyncIterator[list[Any]]:
    keys = list(table.primary_key.columns)
    places = [list(table.columns).index(column) for column in keys]
    rows: list[Any] = []
    found = await connection.stream(select(table).order_by(*keys), execution_options={"yield_per": FETCHED})
    async for row in found:
        rows.append(tuple(row))
        if _border([row[i] for i in places]) or len(rows) >= MOST_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _border(key: list[Any]) -> bool:
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % PART_ROWS == 0


def _schema(table: Table) -> dict[str, Any]:
    kinds: dict[type[Any], Any] = {BigInteger: pl.Int64, Integer: pl.Int64, Boolean: pl.Boolean, Double: pl.Float64}
    return {column.name: kinds.get(type(column.type), pl.String) for column in table.columns}
