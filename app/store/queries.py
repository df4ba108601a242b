"""Questions to the read model, as typed functions; the API and the command line ask the same ones.

`tenant=None` asks for all tenants: the caller has made sure that it may. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, RowMapping, Select, Table, and_, case, func, or_, select

from app.store.engine import Store
from app.store.tables import (
    activity,
    commands,
    dead_letters,
    definitions,
    deliveries,
    detections,
    features,
    health,
    outcomes,
    receipts,
    sink,
)
from app.store.tables import adoption as adoption_table
from app.store.tables import products as products_table
from core.decide.slots import slot
from core.definitions import undefined_product
from core.letters import Filter
from schemas.activity import Activity
from schemas.commands import Command
from schemas.definitions import DEFINITION, Product
from schemas.delivery import DeadLetter, Receipt, SinkRecord
from schemas.detections import DETECTION, Detection
from schemas.outcomes import OutcomeRow, Verdict
from schemas.registers import WINDOWS
from schemas.tables import AdoptionRow, HealthRow, WindowName

W = TypeVar("W", bound=BaseModel)
Cursor = tuple[int, str]
"""Time and id of the last row of a page; the next page begins behind it."""
LIMIT = 100


class ProductSeen(BaseModel):
    """A product that has figures."""

    tenant: str
    product: str
    features: int


def last_end(window: str, at: int) -> int:
    """The newest end of `window` at or before `at`."""
    step = WINDOWS[window][1]
    return at // step * step


async def adoption(
    store: Store, *, window: WindowName, at: int | None = None, tenant: str | None = None, product: str | None = None
) -> list[AdoptionRow]:
    """Every feature's row in the last window closed at `at`, ordered by tenant, product, feature.

    A row is published only when something changed: the newest row at or before that end is carried forward to it and
    bears its `window_start` and `window_end`. Without `at`: the newest end that each product has published.
    Ends inside a kept slot (5 min for `5m`, else the step or finer) answer with the slot before, once the slot is over.
    """
    end = None if at is None else last_end(window, at)
    found = [
        AdoptionRow.model_validate(_plain(row)) for row in await _all(store, _newest(window, end, tenant, product))
    ]
    ends: dict[tuple[str, str], int] = {}
    for row in found:
        of = (row.tenant, row.product)
        ends[of] = max(ends.get(of, 0), row.window_end)
    return [_carried(row, end if end is not None else ends[row.tenant, row.product]) for row in found]


async def adoption_history(
    store: Store,
    *,
    tenant: str,
    product: str,
    feature: str,
    window: WindowName,
    since: int = 0,
    until: int | None = None,
    limit: int = 500,
) -> list[AdoptionRow]:
    """A feature's published rows with `since <= window_end <= until`, newest first."""
    t = adoption_table.c
    where = [t.tenant == tenant, t.product == product, t.feature == feature, t.window == window, t.window_end >= since]
    if until is not None:
        where.append(t.window_end <= until)
    wanted = select(*_without_slot()).where(*where).order_by(t.slot.desc()).limit(limit)
    return [AdoptionRow.model_validate(_plain(row)) for row in await _all(store, wanted)]


async def health_rows(
    store: Store, *, at: int | None = None, tenant: str | None = None, product: str | None = None
) -> list[HealthRow]:
    """Every product's health at `at`: its newest row at or before, carried forward to the last end of its health window.

    Without `at`: the newest row of each product, as published.
    """
    p, other = products_table.c, health.alias()
    newest = select(func.max(other.c.at)).where(other.c.tenant == p.tenant, other.c.product == p.product)
    if at is not None:
        newest = newest.where(other.c.at <= at)
    joined = products_table.join(
        health,
        and_(health.c.tenant == p.tenant, health.c.product == p.product, health.c.at == newest.scalar_subquery()),
    )
    wanted = select(health.c.body).select_from(joined).order_by(p.tenant, p.product)
    found = await _words(store, HealthRow, wanted.where(*_scope(products_table, tenant, product)))
    if at is None:
        return found
    carried = []
    for row in found:
        window = (await product_definition(store, row.tenant, row.product)).health_window
        carried.append(row.model_copy(update={"at": max(row.at, last_end(window, at))}))
    return carried


async def health_history(
    store: Store, *, tenant: str, product: str, since: int = 0, until: int | None = None, limit: int = 500
) -> list[HealthRow]:
    """A product's health rows with `since <= at <= until`, newest first."""
    where = [health.c.tenant == tenant, health.c.product == product, health.c.at >= since]
    if until is not None:
        where.append(health.c.at <= until)
    return await _words(store, HealthRow, select(health.c.body).where(*where).order_by(health.c.at.desc()).limit(limit))


async def products(store: Store, *, tenant: str | None = None) -> list[ProductSeen]:
    """Products that have figures, with how many features."""
    counted = (
        select(func.count())
        .select_from(features)
        .where(features.c.tenant == products_table.c.tenant, features.c.product == products_table.c.product)
        .scalar_subquery()
    )
    p = products_table.c
    wanted = select(p.tenant, p.product, counted.label("features")).order_by(p.tenant, p.product)
    found = await _all(store, wanted.where(*_scope(products_table, tenant, None)))
    return [ProductSeen.model_validate(dict(row)) for row in found]


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
    where = _scope(outcomes, tenant, product) + _equal(outcomes, rule=rule, verdict=verdict)
    return await _words(store, OutcomeRow, select(t.body).where(*where).order_by(t.tenant, t.product, t.rule))


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
    where = _scope(detections, tenant, product) + _equal(detections, kind=kind, subject=subject)
    where += _behind(t.at, t.id, before)
    wanted = select(t.body).where(*where).order_by(t.at.desc(), t.id).limit(limit)
    return [DETECTION.validate_json(row["body"]) for row in await _all(store, wanted)]


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
    where = _scope(commands, tenant, product) + _equal(commands, domain=domain, rule=rule, subject=subject)
    where += _behind(t.issued_at, t.id, before)
    return await _words(store, Command, select(t.body).where(*where).order_by(t.issued_at.desc(), t.id).limit(limit))


async def commands_by_rule(
    store: Store, *, tenant: str, product: str, since: int = 0, until: int | None = None
) -> dict[str, int]:
    """How many commands each rule issued with `since <= issued_at <= until`."""
    t = commands.c
    where = [*_scope(commands, tenant, product), t.issued_at >= since]
    if until is not None:
        where.append(t.issued_at <= until)
    wanted = select(t.rule, func.count().label("n")).where(*where).group_by(t.rule).order_by(t.rule)
    return {row["rule"]: row["n"] for row in await _all(store, wanted)}


async def command(store: Store, id: str, *, tenant: str) -> Command | None:
    """One command; None where the read model has none of that id."""
    found = await _words(
        store, Command, select(commands.c.body).where(commands.c.id == id, commands.c.tenant == tenant)
    )
    return found[0] if found else None


async def products_of(store: Store, *, tenant: str, feature: str) -> list[str]:
    """The products that have a feature of that name."""
    wanted = select(features.c.product).where(features.c.tenant == tenant, features.c.feature == feature)
    return sorted(row["product"] for row in await _all(store, wanted))


async def commands_known(store: Store, ids: Sequence[str]) -> set[str]:
    """Which of these commands have been issued."""
    wanted = select(commands.c.id).where(commands.c.id.in_(list(ids)))
    return {row["id"] for row in await _all(store, wanted)}


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
    where = _scope(activity, tenant, product) + _equal(activity, subject=subject) + _behind(t.at, t.id, before)
    if rules is not None:
        where.append(t.rule.in_(list(rules)))
    if since is not None:
        where.append(t.at >= since)
    if until is not None:
        where.append(t.at < until)
    return await _words(store, Activity, select(t.body).where(*where).order_by(t.at.desc(), t.id).limit(limit))


async def count_activity(
    store: Store, *, tenant: str | None = None, since: int = 0, until: int | None = None
) -> list[tuple[str, str, str | None, int]]:
    """(rule, what, how it ended, lines) with `since <= at < until`. Deliveries that runs waited for count once."""
    t, lines = activity.c, func.count().label("lines")
    how = case((t.what == "ended", t.reason), else_=None).label("how")
    where = [*_scope(activity, tenant, None), t.at >= since, or_(t.what != "delivered", t.id.startswith("receipt:"))]
    if until is not None:
        where.append(t.at < until)
    grouped = (
        select(t.rule, t.what, how, lines).where(*where).group_by(t.rule, t.what, how).order_by(t.rule, t.what, how)
    )
    return [(row["rule"], row["what"], row["how"], row["lines"]) for row in await _all(store, grouped)]


async def list_sink(store: Store, *, tenant: str | None = None, limit: int = LIMIT) -> list[SinkRecord]:
    """What the built-in sink received, newest first."""
    wanted = select(sink.c.body).where(*_scope(sink, tenant, None)).order_by(sink.c.recorded_at.desc()).limit(limit)
    return await _words(store, SinkRecord, wanted)


class KeptLetter(DeadLetter):
    """A dead letter as the read model keeps it."""

    id: str
    tenant: str | None
    """Null: it cannot be known whose it is."""
    bytes: int | None
    """Of the original value; `value` is cut for reading."""


class LetterCount(BaseModel):
    """Dead letters of one kind."""

    step: str
    reason: str
    topic: str
    letters: int
    newest: int
    """Time of the newest row."""


async def list_dead_letters(
    store: Store, wanted: Filter, *, before: Cursor | None = None, limit: int = LIMIT
) -> list[KeptLetter]:
    """Dead letters, newest first. With a tenant: only those that are known to be its own."""
    t = dead_letters.c
    where = _letters(wanted) + _behind(t.at, t.id, before)
    chosen = select(*(t[name] for name in KeptLetter.model_fields)).where(*where)
    found = await _all(store, chosen.order_by(t.at.desc(), t.id).limit(limit))
    return [KeptLetter.model_validate(dict(row)) for row in found]


async def dead_letter(store: Store, id: str, *, tenant: str | None = None) -> KeptLetter | None:
    """One dead letter; None where there is none of that id, or it is not known to be the tenant's."""
    t = dead_letters.c
    chosen = select(*(t[name] for name in KeptLetter.model_fields)).where(t.id == id, *_letters(Filter(tenant=tenant)))
    found = await _all(store, chosen)
    return KeptLetter.model_validate(dict(found[0])) if found else None


async def count_dead_letters(store: Store, wanted: Filter) -> list[LetterCount]:
    """Dead letters by step, reason and topic, most first."""
    t, letters = dead_letters.c, func.count().label("letters")
    chosen = select(t.step, t.reason, t.topic, letters, func.max(t.at).label("newest")).where(*_letters(wanted))
    grouped = chosen.group_by(t.step, t.reason, t.topic).order_by(letters.desc(), t.step, t.reason, t.topic)
    return [LetterCount.model_validate(dict(row)) for row in await _all(store, grouped)]


def _letters(wanted: Filter) -> list[ColumnElement[bool]]:
    at = dead_letters.c.at
    where = _equal(dead_letters, tenant=wanted.tenant, reason=wanted.reason, step=wanted.step, topic=wanted.topic)
    if wanted.since is not None:
        where.append(at >= wanted.since)
    if wanted.until is not None:
        where.append(at < wanted.until)
    return where


async def counts(store: Store, *, tenant: str | None = None) -> dict[str, int]:
    """How many rows the read model has of what was decided and done, and deliveries by status."""
    made: dict[str, int] = {}
    async with store.reader.begin() as connection:
        for table in (detections, commands, sink, dead_letters):
            wanted = select(func.count()).select_from(table).where(*_scope(table, tenant, None))
            made[table.name] = (await connection.execute(wanted)).scalar_one()
        grouped = select(deliveries.c.status, func.count()).where(*_scope(deliveries, tenant, None))
        for status, n in await connection.execute(grouped.group_by(deliveries.c.status)):
            made[f"deliveries.{status}"] = n
    return made


async def product_definition(store: Store, tenant: str, name: str) -> Product:
    """The product's settings as the read model has them; defaults where nobody defined it."""
    t = definitions.c
    wanted = select(t.tenant, t.body).where(t.kind == "product", t.name == name, t.tenant.in_((tenant, "all")))
    found = {row["tenant"]: row["body"] for row in await _all(store, wanted)}
    body = found.get(tenant) or found.get("all")
    made = DEFINITION.validate_json(body) if body else None
    return made if isinstance(made, Product) else undefined_product(tenant, name)


# --- how --------------------------------------------------------------------------------------------------------------


def _without_slot() -> list[Any]:
    return [c for c in adoption_table.columns if c.name != "slot"]


def _newest(window: str, end: int | None, tenant: str | None, product: str | None) -> Select[Any]:
    """Per feature the row of the newest end, found by one index seek each."""
    t, f, other = adoption_table.c, features.c, adoption_table.alias()
    inner = select(other.c.slot).where(
        other.c.tenant == f.tenant, other.c.product == f.product, other.c.feature == f.feature, other.c.window == window
    )
    if end is not None:
        inner = inner.where(other.c.slot <= slot(window, end), other.c.window_end <= end)
    newest = inner.order_by(other.c.slot.desc()).limit(1).scalar_subquery()
    on = and_(
        t.tenant == f.tenant, t.product == f.product, t.feature == f.feature, t.window == window, t.slot == newest
    )
    wanted = select(*_without_slot()).select_from(features.join(adoption_table, on))
    return wanted.where(*_scope(features, tenant, product)).order_by(f.tenant, f.product, f.feature)


def _carried(row: AdoptionRow, end: int) -> AdoptionRow:
    return row.model_copy(update={"window_start": end - WINDOWS[row.window][0], "window_end": end})


def _plain(row: RowMapping) -> dict[str, Any]:
    return dict(row)


def _scope(table: Table, tenant: str | None, product: str | None) -> list[ColumnElement[bool]]:
    return _equal(table, tenant=tenant, product=product)


def _equal(table: Table, **wanted: str | None) -> list[ColumnElement[bool]]:
    return [table.c[column] == value for column, value in wanted.items() if value is not None]


def _behind(at: ColumnElement[int], id: ColumnElement[str], before: Cursor | None) -> list[ColumnElement[bool]]:
    """What stands behind a page's last row in the order "newest first, then by id"."""
    return [] if before is None else [or_(at < before[0], and_(at == before[0], id > before[1]))]


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
    where = _scope(table, tenant, product) + _equal(table, status=status, command=command)
    where += _behind(table.c.at, table.c.id, before)
    wanted = select(table.c.body).where(*where).order_by(table.c.at.desc(), table.c.id).limit(limit)
    return await _words(store, Receipt, wanted)


async def _all(store: Store, wanted: Select[Any]) -> Sequence[RowMapping]:
    async with store.reader.begin() as connection:
        found: Sequence[RowMapping] = (await connection.execute(wanted)).mappings().all()
        return found


async def _words(store: Store, word: type[W], wanted: Select[Any]) -> list[W]:
    return [word.model_validate_json(row["body"]) for row in await _all(store, wanted)]
