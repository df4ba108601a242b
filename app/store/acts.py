"""Questions for what was decided and done: detections, commands, receipts, activity, outcomes.

`tenant=None` asks for all tenants: the caller has made sure that it may. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table, case, func, or_, select

from app.store.asking import LIMIT, Cursor, behind, equal, rows, scope, words
from app.store.engine import Store
from app.store.tables import activity, commands, dead_letters, deliveries, detections, outcomes, receipts, sink
from schemas.activity import Activity
from schemas.commands import Command
from schemas.delivery import Receipt, SinkRecord
from schemas.detections import DETECTION, Detection
from schemas.outcomes import OutcomeRow, Verdict


async def list_outcomes(
    store: Store,
    *,
    tenant: str | None = None,
    product: str | None = None,
    rule: str | None = None,
    verdict: Verdict | None = None,
) -> list[OutcomeRow]:
    """What measured rules have done so far, by tenant, product and rule."""
    t = outcomes.c
    where = scope(outcomes, tenant, product) + equal(outcomes, rule=rule, verdict=verdict)
    return await words(store, OutcomeRow, select(t.body).where(*where).order_by(t.tenant, t.product, t.rule))


async def list_detections(
    store: Store,
    *,
    tenant: str | None = None,
    product: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    before: Cursor | None = None,
    limit: int = LIMIT,
) -> list[Detection]:
    """Detections, newest first by event time; `before` pages."""
    t = detections.c
    where = scope(detections, tenant, product) + equal(detections, kind=kind, subject=subject)
    where += behind(t.at, t.id, before)
    wanted = select(t.body).where(*where).order_by(t.at.desc(), t.id).limit(limit)
    return [DETECTION.validate_json(row["body"]) for row in await rows(store, wanted)]


async def list_commands(
    store: Store,
    *,
    tenant: str | None = None,
    product: str | None = None,
    domain: str | None = None,
    rule: str | None = None,
    subject: str | None = None,
    before: Cursor | None = None,
    limit: int = LIMIT,
) -> list[Command]:
    """Commands, newest first by event time; `before` pages."""
    t = commands.c
    where = scope(commands, tenant, product) + equal(commands, domain=domain, rule=rule, subject=subject)
    where += behind(t.issued_at, t.id, before)
    return await words(store, Command, select(t.body).where(*where).order_by(t.issued_at.desc(), t.id).limit(limit))


async def commands_by_rule(
    store: Store, *, tenant: str, product: str, since: int = 0, until: int | None = None
) -> dict[str, int]:
    """How many commands each rule issued with `since <= issued_at <= until`."""
    t = commands.c
    where = [*scope(commands, tenant, product), t.issued_at >= since]
    if until is not None:
        where.append(t.issued_at <= until)
    wanted = select(t.rule, func.count().label("n")).where(*where).group_by(t.rule).order_by(t.rule)
    return {row["rule"]: row["n"] for row in await rows(store, wanted)}


async def command(store: Store, id: str, *, tenant: str) -> Command | None:
    """One command; None where the read model has none of that id."""
    found = await words(store, Command, select(commands.c.body).where(commands.c.id == id, commands.c.tenant == tenant))
    return found[0] if found else None


async def commands_known(store: Store, ids: Sequence[str]) -> set[str]:
    """Which of these commands have been issued."""
    wanted = select(commands.c.id).where(commands.c.id.in_(list(ids)))
    return {row["id"] for row in await rows(store, wanted)}


async def list_receipts(
    store: Store,
    *,
    tenant: str | None = None,
    product: str | None = None,
    status: str | None = None,
    command: str | None = None,
    before: Cursor | None = None,
    limit: int = LIMIT,
) -> list[Receipt]:
    """Receipts of attempts, newest first."""
    return await _receipts(store, receipts, tenant, product, status, command, before, limit)


async def list_deliveries(
    store: Store,
    *,
    tenant: str | None = None,
    product: str | None = None,
    status: str | None = None,
    command: str | None = None,
    before: Cursor | None = None,
    limit: int = LIMIT,
) -> list[Receipt]:
    """Where each delivery stands: its newest receipt, newest first."""
    return await _receipts(store, deliveries, tenant, product, status, command, before, limit)


async def list_activity(
    store: Store,
    *,
    tenant: str | None = None,
    rules: Sequence[str] | None = None,
    subject: str | None = None,
    product: str | None = None,
    since: int | None = None,
    until: int | None = None,
    before: Cursor | None = None,
    limit: int = LIMIT,
) -> list[Activity]:
    """What rules and runs did with `since <= at < until`, newest first. `rules`: ids and names, any of which is meant."""
    t = activity.c
    where = scope(activity, tenant, product) + equal(activity, subject=subject) + behind(t.at, t.id, before)
    if rules is not None:
        where.append(t.rule.in_(list(rules)))
    if since is not None:
        where.append(t.at >= since)
    if until is not None:
        where.append(t.at < until)
    return await words(store, Activity, select(t.body).where(*where).order_by(t.at.desc(), t.id).limit(limit))


async def count_activity(
    store: Store, *, tenant: str | None = None, since: int = 0, until: int | None = None
) -> list[tuple[str, str, str | None, int]]:
    """(rule, what, how it ended, lines) with `since <= at < until`. Deliveries that runs waited for count once."""
    t, lines = activity.c, func.count().label("lines")
    how = case((t.what == "ended", t.reason), else_=None).label("how")
    where = [*scope(activity, tenant, None), t.at >= since, or_(t.what != "delivered", t.id.startswith("receipt:"))]
    if until is not None:
        where.append(t.at < until)
    grouped = (
        select(t.rule, t.what, how, lines).where(*where).group_by(t.rule, t.what, how).order_by(t.rule, t.what, how)
    )
    return [(row["rule"], row["what"], row["how"], row["lines"]) for row in await rows(store, grouped)]


async def list_sink(store: Store, *, tenant: str | None = None, limit: int = LIMIT) -> list[SinkRecord]:
    """What the built-in sink received, newest first."""
    wanted = select(sink.c.body).where(*scope(sink, tenant, None)).order_by(sink.c.recorded_at.desc()).limit(limit)
    return await words(store, SinkRecord, wanted)


async def counts(store: Store, *, tenant: str | None = None) -> dict[str, int]:
    """How many rows the read model has of what was decided and done, and deliveries by status."""
    made: dict[str, int] = {}
    async with store.reader.begin() as connection:
        for table in (detections, commands, sink, dead_letters):
            wanted = select(func.count()).select_from(table).where(*scope(table, tenant, None))
            made[table.name] = (await connection.execute(wanted)).scalar_one()
        grouped = select(deliveries.c.status, func.count()).where(*scope(deliveries, tenant, None))
        for status, n in await connection.execute(grouped.group_by(deliveries.c.status)):
            made[f"deliveries.{status}"] = n
    return made


async def _receipts(
    store: Store,
    table: Table,
    tenant: str | None,
    product: str | None,
    status: str | None,
    command: str | None,
    before: Cursor | None,
    limit: int,
) -> list[Receipt]:
    where = scope(table, tenant, product) + equal(table, status=status, command=command)
    where += behind(table.c.at, table.c.id, before)
    wanted = select(table.c.body).where(*where).order_by(table.c.at.desc(), table.c.id).limit(limit)
    return await words(store, Receipt, wanted)
