"""Rows about forgotten subjects go, on both databases; everybody else's stay."""

from __future__ import annotations

from sqlalchemy import select

from app.store import Store
from app.store.forget import forget
from app.store.tables import METADATA
from app.store.write import write
from core.definitions import Catalogue
from core.forgetting import Forgetting
from core.project import project
from tests.core.test_forgetting import forgotten
from tests.helpers.words import a_batch, a_command, a_receipt, a_sink_record


async def text_of(store: Store, *names: str, tenant: str | None = None) -> str:
    """Everything in these tables (all, where none is named) as text, unabridged as a row's own is not."""
    found: list[tuple[object, ...]] = []
    async with store.reader.begin() as connection:
        for name in names or METADATA.tables:
            table = METADATA.tables[name]
            wanted = select(table) if tenant is None else select(table).where(table.c.tenant == tenant)
            found += [tuple(row) for row in await connection.execute(wanted)]
    return str(found)


async def test_rows_about_a_subject_go_and_others_stay(store: Store) -> None:
    names = ("user:ann-to-go", "user:bob-to-stay")
    commands = [a_command(subject=s, cause=s, tenant=t) for t in ("acme", "beta") for s in names]
    letters: list[bytes | None] = [b"broken", b'{"tenant": "acme", "user": "ann-to-go"}', b"broken"]
    for batch in (
        a_batch("commands.product", commands),
        a_batch("receipts", [a_receipt(c) for c in commands]),
        a_batch("sink", [a_sink_record(c, delivery=c.id) for c in commands]),
        a_batch("dead-letters", letters, keys=[b"acme|ann-to-go", b"acme|other", b"acme|bob-to-stay"]),
    ):
        rows = project(batch).rows
        await write(store, rows, role="project", topic=batch.topic, partition=0, next_offset=batch.next_offset)
    catalogue = Catalogue()
    catalogue.put(forgotten("user:ann-to-go"))
    before = await text_of(store)
    went = await forget(store, Forgetting(catalogue))
    after = await text_of(store)
    assert went > 0 and "ann-to-go" in before
    assert after.count("bob-to-stay") == before.count("bob-to-stay")
    for name in ("commands", "receipts", "sink"):
        assert "ann-to-go" not in await text_of(store, name, tenant="acme"), name
        assert "bob-to-stay" in await text_of(store, name, tenant="acme"), name
        assert "ann-to-go" in await text_of(store, name, tenant="beta"), name
    assert "ann-to-go" not in await text_of(store, "dead_letters")
    assert await forget(store, Forgetting(catalogue)) == 0
