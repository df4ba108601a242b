"""Writing the read model: rows and the position behind them in one transaction, so that nothing is lost or counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Table, and_, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.sql import ColumnElement

from agents.rooms import Unavailable
from app.store.engine import Store, StoreError, first_line, open_store
from app.store.figures import show
from app.store.forget import forget
from app.store.runs import prune as prune_runs
from app.store.tables import METADATA, positions
from core.forgetting import Forgetting
from core.project import KEYS, VERSIONS
from core.public import Row

ADOPTION_KEPT_MS: Mapping[str, int] = {
    "5m": 3 * 86_400_000,
    "1h": 35 * 86_400_000,
    "1d": 400 * 86_400_000,
    "7d": 400 * 86_400_000,
    "28d": 400 * 86_400_000,
}
"""How far behind its newest end each window's history is kept."""
ACTIVITY_KEPT_MS = 90 * 86_400_000
"""How far behind the newest recorded line the activity log is kept: as long as the topic `runs`."""


class Writer:
    """The read model as the project role sees it (`agents.rooms.ReadModel`); opened when it is first used, for one version of the
    figures.
    """

    def __init__(self, url: str, figures: int = 1) -> None:
        self._url = url
        self._figures = figures
        self._store: Store | None = None
        self._opening = asyncio.Lock()

    async def _opened(self) -> Store:
        async with self._opening:
            if self._store is None:
                store = await open_store(self._url)
                try:
                    await show(store, self._figures)
                except BaseException:
                    await store.close()
                    raise
                self._store = store
            return self._store

    async def positions(self, role: str, partition: int) -> dict[str, int]:
        """Where to go on: topic → next offset of this partition. Raises `Unavailable`."""
        with _answering():
            return await read_positions(await self._opened(), role, partition)

    async def write(
        self, rows: Mapping[str, Sequence[Row]], *, role: str, topic: str, partition: int, next_offset: int
    ) -> None:
        """Rows and the position behind them, in one transaction. Raises `Unavailable`."""
        with _answering():
            store = await self._opened()
            await write(store, rows, role=role, topic=topic, partition=partition, next_offset=next_offset)

    async def write_definitions(self, rows: Sequence[Row]) -> None:
        """Make the `definitions` table say exactly this. Raises `Unavailable`."""
        with _answering():
            await write_definitions(await self._opened(), rows)

    async def forget(self, forgotten: Forgetting) -> int:
        """Delete the rows about subjects that are to be forgotten; how many went. Raises `Unavailable`."""
        with _answering():
            return await forget(await self._opened(), forgotten)

    async def prune(self) -> int:
        """Drop history that is older than is kept; how many rows went. Raises `Unavailable`."""
        with _answering():
            store = await self._opened()
            return await prune(store) + await prune_runs(store)

    async def close(self) -> None:
        """Give back every connection."""
        if self._store is not None:
            await self._store.close()
            self._store = None


@contextmanager
def _answering() -> Iterator[None]:
    """Gone, locked, full, refusing: the database's own troubles are one error. What is wrong with a row is another."""
    try:
        yield
    except (StoreError, OSError, TimeoutError, OperationalError, InterfaceError, InternalError) as error:
        raise Unavailable(f"{type(error).__name__}: {first_line(error)}") from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise Unavailable(f"{type(error).__name__}: {first_line(error)}") from error


async def write(
    store: Store, rows: Mapping[str, Sequence[Row]], *, role: str, topic: str, partition: int, next_offset: int
) -> None:
    """Upsert `rows` (table → rows, one a key) and move the position on, together.

    Repeating a batch, or a slower owner's older batch, changes nothing: newer versions and positions stay.
    """
    async with store.writer.begin() as connection:
        # Always the same order of tables and keys: two owners that meet in shared rows wait for each other, in no circle.
        for name in sorted(rows):
            if of := _ordered(name, rows[name]):
                await connection.execute(_upsert(store.dialect, METADATA.tables[name], name), of)
        await connection.execute(
            _upsert_position(store.dialect),
            {"role": role, "topic": topic, "partition": partition, "next_offset": next_offset},
        )


async def write_definitions(store: Store, rows: Sequence[Row]) -> None:
    """Make the `definitions` table say exactly this: retired ones go."""
    table = METADATA.tables["definitions"]
    async with store.writer.begin() as connection:
        if store.dialect == "postgresql":
            # Every project process mirrors them: one after the other, else both insert what both have deleted.
            await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7314)")
        await connection.execute(delete(table))
        if rows:
            await connection.execute(table.insert(), list(rows))


async def read_positions(store: Store, role: str, partition: int) -> dict[str, int]:
    """Where to go on: topic → next offset of this partition."""
    wanted = select(positions.c.topic, positions.c.next_offset).where(
        positions.c.role == role, positions.c.partition == partition
    )
    async with store.reader.begin() as connection:
        return {topic: offset for topic, offset in await connection.execute(wanted)}


async def prune(store: Store, *, keep: Mapping[str, int] = ADOPTION_KEPT_MS) -> int:
    """Drop adoption history that is further behind its window's newest end than `keep` says, and activity older than is
    kept; how many rows went.

    The newest row of every feature stays, however old.
    """
    table = METADATA.tables["adoption"]
    dropped = await _prune_activity(store)
    for window, kept_ms in keep.items():
        newer = table.alias()
        async with store.writer.begin() as connection:
            newest = (
                await connection.execute(select(func.max(table.c.window_end)).where(table.c.window == window))
            ).scalar()
            if newest is None:
                continue
            overtaken = (
                select(newer.c.slot)
                .where(
                    *(newer.c[c] == table.c[c] for c in ("tenant", "product", "feature", "window")),
                    newer.c.slot > table.c.slot,
                )
                .exists()
            )
            result = await connection.execute(
                delete(table).where(table.c.window == window, table.c.window_end < newest - kept_ms, overtaken)
            )
            dropped += result.rowcount
    return dropped


async def _prune_activity(store: Store) -> int:
    recorded = METADATA.tables["activity"].c.recorded_at
    async with store.writer.begin() as connection:
        newest = (await connection.execute(select(func.max(recorded)))).scalar()
        if newest is None:
            return 0
        gone = await connection.execute(delete(METADATA.tables["activity"]).where(recorded < newest - ACTIVITY_KEPT_MS))
        return gone.rowcount


def _ordered(name: str, rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: [str(row[column]) for column in KEYS[name]])


def _upsert(dialect: str, table: Table, name: str) -> Any:
    statement = _insert(dialect, table)
    versions = VERSIONS.get(name, ())
    if not versions:
        return statement.on_conflict_do_nothing(index_elements=list(KEYS[name]))
    fresh = statement.excluded
    changed = {c.name: fresh[c.name] for c in table.columns if not c.primary_key}
    return statement.on_conflict_do_update(
        index_elements=list(KEYS[name]), set_=changed, where=_newer(fresh, table, versions)
    )


def _upsert_position(dialect: str) -> Any:
    statement = _insert(dialect, positions)
    fresh = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["role", "topic", "partition"],
        set_={"next_offset": fresh["next_offset"]},
        where=fresh["next_offset"] > positions.c.next_offset,
    )


def _insert(dialect: str, table: Table) -> Any:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _newer(fresh: Any, table: Table, versions: tuple[str, ...]) -> ColumnElement[bool]:
    """`fresh` beats the row that is there, by the version columns in order."""
    first, *rest = versions
    newer: ColumnElement[bool] = fresh[first] > table.c[first]
    if rest:
        newer = or_(newer, and_(fresh[first] == table.c[first], _newer(fresh, table, tuple(rest))))
    return newer
