"""Forgetting in the read model: every row about a subject goes. Who that is, only hashes tell, so each candidate is asked about."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.engine import Store
from app.store.tables import METADATA
from core.forgetting import Forgetting

_WITH_SUBJECT = ("commands", "receipts", "deliveries", "detections", "runs", "run_records", "activity")
_BY_BODY = {"sink": ("delivery", "body"), "dead_letters": ("id", "value")}
"""Table → its key, and the column that holds the record: these have no column that names the subject."""
_CHUNK = 500


async def forget(store: Store, forgotten: Forgetting) -> int:
    """Delete the rows about subjects that are to be forgotten; how many went. Repeating it does nothing."""
    went = 0
    async with store.writer.begin() as connection:
        for tenant in forgotten.tenants:
            for name in _WITH_SUBJECT:
                went += await _by_subject(connection, name, tenant, forgotten)
            went += await _renamed(connection, tenant, forgotten)
            for name in _BY_BODY:
                went += await _by_body(connection, name, tenant, forgotten)
    return went


async def _by_subject(connection: AsyncConnection, name: str, tenant: str, forgotten: Forgetting) -> int:
    table = METADATA.tables[name]
    subjects = await connection.execute(select(table.c.subject).where(table.c.tenant == tenant).distinct())
    gone = [s for (s,) in subjects if forgotten.holds(tenant, s)]
    went = 0
    for subject in gone:
        done = await connection.execute(delete(table).where(table.c.tenant == tenant, table.c.subject == subject))
        went += done.rowcount
    return went


async def _renamed(connection: AsyncConnection, tenant: str, forgotten: Forgetting) -> int:
    """Runs that go on under another name than one of theirs that is to be forgotten."""
    runs, records = METADATA.tables["runs"], METADATA.tables["run_records"]
    gone: set[str] = set()
    told = select(records.c.run, records.c.body).where(
        records.c.tenant == tenant, records.c.body.like('%"job":{"job":"renamed"%')
    )
    async with connection.stream(told) as rows:
        async for run, body in rows:
            if forgotten.concerns(None, body.encode()):
                gone.add(run)
    ids, went = sorted(gone), 0
    for start in range(0, len(ids), _CHUNK):
        some = ids[start : start + _CHUNK]
        for statement in (delete(runs).where(runs.c.id.in_(some)), delete(records).where(records.c.run.in_(some))):
            went += (await connection.execute(statement)).rowcount
    return went


async def _by_body(connection: AsyncConnection, name: str, tenant: str, forgotten: Forgetting) -> int:
    table = METADATA.tables[name]
    key, body = (table.c[column] for column in _BY_BODY[name])
    columns = [key, body, *([table.c.key] if name == "dead_letters" else [])]
    gone = []
    async with connection.stream(select(*columns).where(table.c.tenant == tenant)) as rows:
        async for id_, text, *of in rows:
            record = None if text is None else text.encode()
            if forgotten.concerns(of[0].encode() if of and of[0] else None, record):
                gone.append(id_)
    for start in range(0, len(gone), _CHUNK):
        await connection.execute(delete(table).where(key.in_(gone[start : start + _CHUNK])))
    return len(gone)
