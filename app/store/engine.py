"""Opening the read model: one engine that writes, one that reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.store.tables import METADATA, SCHEMA_VERSION, meta

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_BUSY_S = 30


class StoreError(Exception):
    """The read model cannot be opened or is of another version; the message names the next move."""


class Store:
    """An open read model. `writer` takes the database's write lock when a transaction begins, `reader` never does.

    Many processes may have one open: on SQLite (WAL) readers never wait and writers take turns.
    """

    def __init__(self, reader: AsyncEngine, writer: AsyncEngine) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.writer.dialect.name

    async def close(self) -> None:
        """Give back every connection."""
        await self.reader.dispose()
        await self.writer.dispose()


async def open_store(url: str) -> Store:
    """Open the read model at `url` (`sqlite:///path`, `postgresql://user:password@host/name`), made if it is not there.

    Raises `StoreError` where the address is wrong, nobody answers, or the tables are of another version.
    """
    try:
        address = make_url(url)
        family = address.drivername.split("+", 1)[0]
        address = address.set(drivername=_DRIVERS[family])
    except (ArgumentError, KeyError) as error:
        raise StoreError(
            "the read model's address is neither sqlite:///path nor postgresql://…: set UPTAKE_DATABASE_URL"
        ) from error
    if family == "sqlite" and address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    store = Store(_engine(address, family, writes=False), _engine(address, family, writes=True))
    try:
        await _prepare(store)
    except (SQLAlchemyError, OSError) as error:
        await store.close()
        raise StoreError(
            f"cannot open the read model at {address.render_as_string()}: {first_line(error)}. "
            "Check that the database runs and UPTAKE_DATABASE_URL names it"
        ) from error
    except StoreError:
        await store.close()
        raise
    return store


def _engine(address: Any, family: str, *, writes: bool) -> AsyncEngine:
    if family == "sqlite":
        engine = create_async_engine(address, connect_args={"timeout": _BUSY_S})
        _sqlite(engine, writes=writes)
        return engine
    return create_async_engine(address, pool_pre_ping=True, pool_size=4, max_overflow=8)


def _sqlite(engine: AsyncEngine, *, writes: bool) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, record: object) -> None:
        connection.isolation_level = (
            None  # we say BEGIN ourselves: a read that turns into a write may not wait its turn
        )
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA cache_size=-32000")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


async def _prepare(store: Store) -> None:
    """Make the tables. Two processes may come first at once: SQLite's write lock or PostgreSQL's advisory lock orders them."""
    async with store.writer.begin() as connection:
        if store.dialect == "postgresql":
            await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7313)")
        await connection.run_sync(METADATA.create_all)
        found = (await connection.execute(select(meta.c.value).where(meta.c.name == "schema"))).scalar()
        if found is None:
            await connection.execute(meta.insert().values(name="schema", value=str(SCHEMA_VERSION)))
        elif int(found) > SCHEMA_VERSION:  # leaving by an error takes back the tables made above
            raise StoreError(
                f"the read model has version {found}, this Uptake writes {SCHEMA_VERSION}: run the version that made it, or name "
                "another database in UPTAKE_DATABASE_URL; it is made again from the log"
            )
        elif found != str(SCHEMA_VERSION):
            raise StoreError(
                f"the read model has version {found}, this Uptake writes {SCHEMA_VERSION}: "
                "empty the database (or delete the file); it is made again from the log"
            )


def first_line(error: BaseException) -> str:
    """What the database said, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]
