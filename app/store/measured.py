"""Questions for figures: adoption, health, products.

`tenant=None` asks for all tenants: the caller has made sure that it may. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sqlalchemy import RowMapping, Select, and_, func, select

from app.store.asking import rows, scope, words
from app.store.engine import Store
from app.store.tables import adoption as adoption_table
from app.store.tables import definitions, features, health
from app.store.tables import products as products_table
from core.decide.slots import slot
from core.definitions import undefined_product
from schemas.definitions import DEFINITION, Product
from schemas.registers import WINDOWS
from schemas.tables import AdoptionRow, HealthRow, WindowName


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
        AdoptionRow.model_validate(_plain(row)) for row in await rows(store, _newest(window, end, tenant, product))
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
    return [AdoptionRow.model_validate(_plain(row)) for row in await rows(store, wanted)]


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
    found = await words(store, HealthRow, wanted.where(*scope(products_table, tenant, product)))
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
    return await words(store, HealthRow, select(health.c.body).where(*where).order_by(health.c.at.desc()).limit(limit))


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
    found = await rows(store, wanted.where(*scope(products_table, tenant, None)))
    return [ProductSeen.model_validate(dict(row)) for row in found]


async def products_of(store: Store, *, tenant: str, feature: str) -> list[str]:
    """The products that have a feature of that name."""
    wanted = select(features.c.product).where(features.c.tenant == tenant, features.c.feature == feature)
    return sorted(row["product"] for row in await rows(store, wanted))


async def product_definition(store: Store, tenant: str, name: str) -> Product:
    """The product's settings as the read model has them; defaults where nobody defined it."""
    t = definitions.c
    wanted = select(t.tenant, t.body).where(t.kind == "product", t.name == name, t.tenant.in_((tenant, "all")))
    found = {row["tenant"]: row["body"] for row in await rows(store, wanted)}
    body = found.get(tenant) or found.get("all")
    made = DEFINITION.validate_json(body) if body else None
    return made if isinstance(made, Product) else undefined_product(tenant, name)


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
    return wanted.where(*scope(features, tenant, product)).order_by(f.tenant, f.product, f.feature)


def _carried(row: AdoptionRow, end: int) -> AdoptionRow:
    return row.model_copy(update={"window_start": end - WINDOWS[row.window][0], "window_end": end})


def _plain(row: RowMapping) -> dict[str, Any]:
    return dict(row)
