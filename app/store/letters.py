"""Questions for dead letters."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import ColumnElement, func, select

from app.store.asking import LIMIT, Cursor, behind, equal, rows
from app.store.engine import Store
from app.store.tables import dead_letters
from core.letters import Filter
from schemas.delivery import DeadLetter


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
    where = _letters(wanted) + behind(t.at, t.id, before)
    chosen = select(*(t[name] for name in KeptLetter.model_fields)).where(*where)
    found = await rows(store, chosen.order_by(t.at.desc(), t.id).limit(limit))
    return [KeptLetter.model_validate(dict(row)) for row in found]


async def dead_letter(store: Store, id: str, *, tenant: str | None = None) -> KeptLetter | None:
    """One dead letter; None where there is none of that id, or it is not known to be the tenant's."""
    t = dead_letters.c
    chosen = select(*(t[name] for name in KeptLetter.model_fields)).where(t.id == id, *_letters(Filter(tenant=tenant)))
    found = await rows(store, chosen)
    return KeptLetter.model_validate(dict(found[0])) if found else None


async def count_dead_letters(store: Store, wanted: Filter) -> list[LetterCount]:
    """Dead letters by step, reason and topic, most first."""
    t, letters = dead_letters.c, func.count().label("letters")
    chosen = select(t.step, t.reason, t.topic, letters, func.max(t.at).label("newest")).where(*_letters(wanted))
    grouped = chosen.group_by(t.step, t.reason, t.topic).order_by(letters.desc(), t.step, t.reason, t.topic)
    return [LetterCount.model_validate(dict(row)) for row in await rows(store, grouped)]


def _letters(wanted: Filter) -> list[ColumnElement[bool]]:
    at = dead_letters.c.at
    where = equal(dead_letters, tenant=wanted.tenant, reason=wanted.reason, step=wanted.step, topic=wanted.topic)
    if wanted.since is not None:
        where.append(at >= wanted.since)
    if wanted.until is not None:
        where.append(at < wanted.until)
    return where
