"""Which version of the figures the read model shows: when another comes into force, what the former one led to goes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, select, update

from app.store.engine import Store
from app.store.tables import METADATA, meta, positions
from schemas.topics import FIGURES

NAME: Final = "figures"
TABLES: Final = ("adoption", "health", "outcomes", "detections")
"""Made of the topics of a version, which are read from their beginning again."""


async def show(store: Store, figures: int) -> bool:
    """Make it the read model of this version; whether it was another's. In one transaction: nobody sees both."""
    of_it = meta.c.name == NAME
    async with store.writer.begin() as connection:
        if store.dialect == "postgresql":
            await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7313)")
        found = (await connection.execute(select(meta.c.value).where(of_it))).scalar()
        if found is None:
            await connection.execute(meta.insert().values(name=NAME, value=str(figures)))
        if int(found or 1) == figures:
            return False
        for table in TABLES:
            await connection.execute(delete(METADATA.tables[table]))
        await connection.execute(delete(positions).where(positions.c.topic.in_(FIGURES)))
        await connection.execute(update(meta).where(of_it).values(value=str(figures)))
    return True
