"""What the questions to the read model share: how they are narrowed, paged, and asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, RowMapping, Select, Table, and_, or_

from app.store.engine import Store

W = TypeVar("W", bound=BaseModel)
Cursor = tuple[int, str]
"""Time and id of the last row of a page; the next page begins behind it."""
LIMIT = 100


def equal(table: Table, **wanted: str | None) -> list[ColumnElement[bool]]:
    """Conditions: these columns equal what is wanted; None wants anything."""
    return [table.c[column] == value for column, value in wanted.items() if value is not None]


def scope(table: Table, tenant: str | None, product: str | None) -> list[ColumnElement[bool]]:
    """Conditions: rows of this tenant and product; None for all."""
    return equal(table, tenant=tenant, product=product)


def behind(at: ColumnElement[int], id: ColumnElement[str], before: Cursor | None) -> list[ColumnElement[bool]]:
    """What stands behind a page's last row in the order "newest first, then by id"."""
    return [] if before is None else [or_(at < before[0], and_(at == before[0], id > before[1]))]


async def rows(store: Store, wanted: Select[Any]) -> Sequence[RowMapping]:
    """The rows that a question finds."""
    async with store.reader.begin() as connection:
        found: Sequence[RowMapping] = (await connection.execute(wanted)).mappings().all()
        return found


async def words(store: Store, word: type[W], wanted: Select[Any]) -> list[W]:
    """The words that stand in the column `body` of what a question finds."""
    return [word.model_validate_json(row["body"]) for row in await rows(store, wanted)]
