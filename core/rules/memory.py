"""State rows of an `Actor`: `books`, `last` (cool-downs) and `hours` (ceilings)."""

from __future__ import annotations

from typing import Any

from core.decide.packing import encode, key
from core.rules.acting import Actor, Books
from core.task import StateRecord


def drain_actor(actor: Actor) -> list[StateRecord]:
    """Rows that changed since the last drain."""
    memory, books = actor.memory, actor.books
    records: list[StateRecord] = []
    for row, *scope in sorted(memory.changed):
        rows: dict[int, int] | None
        if row == "last":
            rule, tenant, product, subject = scope
            rows = memory.last.get((rule, tenant, product, subject))
        else:
            rule, tenant, product = scope
            rows = memory.hours.get((rule, tenant, product))
        records.append((key(row, *scope), encode(rows) if rows else None))
    memory.changed.clear()
    if actor.written != books.matched:
        actor.written = books.matched
        records.append((key("books"), encode([books.matched, books.commanded, books.suppressed, books.failed])))
    return records


def load_actor(actor: Actor, row: str, scope: list[Any], content: Any) -> bool:
    """Take one row back; False where it is none of an actor's."""
    match row:
        case "books":
            actor.books = Books(*content)
            actor.written = actor.books.matched
        case "last":
            rule, tenant, product, subject = scope
            actor.memory.last[rule, tenant, product, subject] = content
        case "hours":
            rule, tenant, product = scope
            actor.memory.hours[rule, tenant, product] = content
        case _:
            return False
    return True
