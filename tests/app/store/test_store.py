from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from agents.rooms import Unavailable
from app.store import Store, StoreError, Writer, open_store, queries
from app.store.figures import show
from app.store.trace import trace
from app.store.write import prune, read_positions, write, write_definitions
from core.batch import Batch
from core.letters import Filter
from core.project import definition_rows, project
from schemas.definitions import ApiKey, Product
from tests.helpers.words import (
    NOON,
    a_batch,
    a_command,
    a_detection,
    a_health_row,
    a_receipt,
    a_sink_record,
    an_adoption_row,
    an_outcome_row,
)

MIN = 60_000


async def put(store: Store, batch: Batch) -> None:
    await write(
        store,
        project(batch).rows,
        role="project",
        topic=batch.topic,
        partition=batch.partition,
        next_offset=batch.next_offset,
    )


async def test_rows_and_position_are_written_together(store: Store) -> None:
    await put(store, a_batch("tables.adoption", [an_adoption_row()], partition=3, first=7))
    assert await read_positions(store, "project", 3) == {"tables.adoption": 8}
    assert await read_positions(store, "project", 4) == {}
    assert await queries.adoption(store, window="1h", at=NOON) == [an_adoption_row()]


async def test_a_batch_that_cannot_be_written_moves_nothing(store: Store) -> None:
    good = project(a_batch("tables.adoption", [an_adoption_row()])).rows
    bad = {"health": [{"tenant": "acme", "product": "shop", "at": 1, "band": None, "version": 0, "body": "{}"}]}
    with pytest.raises(Exception, match=r"(?i)null"):
        await write(store, {**good, **bad}, role="project", topic="tables.adoption", partition=0, next_offset=1)
    assert await read_positions(store, "project", 0) == {}
    assert await queries.adoption(store, window="1h", at=NOON) == []


async def test_any_order_and_any_repetition_of_batches_ends_the_same(store: Store) -> None:
    rows = [an_adoption_row(end=NOON + i * MIN, version=v, users=i * 10 + v) for i in range(5) for v in range(3)]
    shuffled = rows * 2
    random.Random(5).shuffle(shuffled)
    for i in range(0, len(shuffled), 4):
        await put(store, a_batch("tables.adoption", shuffled[i : i + 4]))
    found = await queries.adoption_history(store, tenant="acme", product="shop", feature="search", window="1h")
    assert [(r.window_end, r.version, r.users) for r in found] == [
        (NOON + i * MIN, 2, i * 10 + 2) for i in (4, 3, 2, 1, 0)
    ]


async def test_a_position_never_goes_back(store: Store) -> None:
    for offset in (5, 9, 7):
        await write(store, {}, role="project", topic="sink", partition=0, next_offset=offset)
    assert await read_positions(store, "project", 0) == {"sink": 9}


async def test_adoption_is_carried_forward_to_the_last_closed_window(store: Store) -> None:
    early = an_adoption_row(end=NOON, feature="search")
    late = an_adoption_row(end=NOON + 10 * MIN, feature="export", users=3)
    await put(store, a_batch("tables.adoption", [early, late, an_adoption_row(window="1d", feature="search")]))
    at = NOON + 7 * MIN + 30_000
    (row,) = await queries.adoption(store, window="1h", at=at)
    assert (row.feature, row.window_end, row.window_start) == ("search", NOON + 7 * MIN, NOON + 7 * MIN - 3_600_000)
    both = await queries.adoption(store, window="1h")
    assert [(r.feature, r.window_end, r.users) for r in both] == [
        ("export", NOON + 10 * MIN, 3),
        ("search", NOON + 10 * MIN, 10),
    ]
    assert await queries.adoption(store, window="1h", at=NOON - 1) == []
    assert [r.feature for r in await queries.adoption(store, window="1d", at=at)] == ["search"]


async def test_within_a_kept_slot_the_newest_end_stays(store: Store) -> None:
    ends = [NOON + s * 1000 for s in (10, 290, 300, 310)]
    await put(store, a_batch("tables.adoption", [an_adoption_row("5m", e, users=i) for i, e in enumerate(ends)]))
    await put(store, a_batch("tables.adoption", [an_adoption_row("5m", ends[0], version=1, users=99)]))
    found = await queries.adoption_history(store, tenant="acme", product="shop", feature="search", window="5m")
    assert [(r.window_end, r.users) for r in found] == [(ends[3], 3), (ends[2], 2)]


async def test_tenants_see_their_own(store: Store) -> None:
    for tenant in ("acme", "other"):
        command = a_command(tenant=tenant)
        await put(store, a_batch("tables.adoption", [an_adoption_row(tenant=tenant)]))
        await put(store, a_batch("tables.health", [a_health_row(tenant=tenant)]))
        await put(store, a_batch("detections", [a_detection(tenant=tenant)]))
        await put(store, a_batch("commands.product", [command]))
        await put(store, a_batch("receipts", [a_receipt(command)]))
        await put(store, a_batch("sink", [a_sink_record(command)]))
    asked = [
        queries.adoption(store, window="1h", tenant="acme"),
        queries.health_rows(store, tenant="acme"),
        queries.products(store, tenant="acme"),
        queries.list_detections(store, tenant="acme"),
        queries.list_commands(store, tenant="acme"),
        queries.list_receipts(store, tenant="acme"),
        queries.list_deliveries(store, tenant="acme"),
    ]
    for rows in await asyncio.gather(*asked):
        assert [r.tenant for r in rows] == ["acme"]
    assert [r.command.tenant for r in await queries.list_sink(store, tenant="acme")] == ["acme"]
    assert (await trace(store, a_command(tenant="other").id, tenant="acme")).found == "nothing"
    assert await queries.counts(store, tenant="acme") == {
        "detections": 1, "commands": 1, "sink": 1, "dead_letters": 0, "deliveries.delivered": 1,
    }  # fmt: skip


async def test_health_is_the_newest_at_that_time(store: Store) -> None:
    rows = [a_health_row(at=NOON + i * 3_600_000, score=50.0 + i) for i in range(3)]
    await put(store, a_batch("tables.health", [*rows, a_health_row(at=NOON, score=49.0, version=1)]))
    assert [r.score for r in await queries.health_rows(store)] == [52.0]
    assert [r.score for r in await queries.health_rows(store, at=NOON + 3_600_000)] == [51.0]
    assert [r.score for r in await queries.health_rows(store, at=NOON + 1)] == [49.0]
    (carried,) = await queries.health_rows(store, at=NOON + 4 * 3_600_000 + 1)
    assert (carried.score, carried.at) == (52.0, NOON + 4 * 3_600_000)
    await write_definitions(store, definition_rows([Product(tenant="acme", name="shop", health_window="5m")]))
    (carried,) = await queries.health_rows(store, at=NOON + 4 * 3_600_000 + 59_999)
    assert carried.at == NOON + 4 * 3_600_000 + 50_000
    assert await queries.health_rows(store, at=NOON - 1) == []
    history = await queries.health_history(store, tenant="acme", product="shop", since=NOON + 1)
    assert [r.score for r in history] == [52.0, 51.0]


async def test_a_delivery_stands_where_its_newest_receipt_says(store: Store) -> None:
    command = a_command()
    told = [
        a_receipt(command, attempt=1, status="retrying", final=False, reason="503"),
        a_receipt(command, attempt=2, status="retrying", final=False, reason="timeout"),
        a_receipt(command, attempt=3, status="delivered"),
    ]
    for receipt in (told[2], told[0], told[1]):
        await put(store, a_batch("receipts", [receipt]))
    (stands,) = await queries.list_deliveries(store)
    assert stands == told[2]
    assert len(await queries.list_receipts(store, command=command.id)) == 3
    assert await queries.list_deliveries(store, status="retrying") == []


async def test_a_trace_links_everything_from_any_of_its_ids(store: Store) -> None:
    detection = a_detection()
    command = a_command(cause=detection.id, detection=detection.id)
    receipt, record = a_receipt(command), a_sink_record(command)
    await put(store, a_batch("detections", [detection]))
    await put(store, a_batch("commands.product", [command, a_command(cause="app://web/evt-7", rule="X1")]))
    await put(store, a_batch("receipts", [receipt]))
    await put(store, a_batch("sink", [record]))
    assert receipt.delivery is not None
    for wanted, kind in ((detection.id, "detection"), (command.id, "command"), (receipt.delivery, "delivery")):
        found = await trace(store, wanted)
        assert (found.found, found.detections, found.commands) == (kind, [detection], [command])
        assert (found.receipts, found.sink) == ([receipt], [record])
    by_event = await trace(store, "evt-7")
    assert (by_event.found, [c.rule for c in by_event.commands]) == ("event", ["X1"])
    assert (await trace(store, "%")).found == "nothing"


async def test_a_suppressed_match_is_found_under_the_id_its_command_would_have(store: Store) -> None:
    command = a_command()
    receipt = a_receipt(command, delivery=None, attempt=0, status="suppressed", reason="paused")
    await put(store, a_batch("receipts", [receipt]))
    found = await trace(store, command.id)
    assert (found.found, found.commands, found.receipts) == ("command", [], [receipt])
    assert await queries.list_deliveries(store) == []


async def test_dead_letters_are_kept_for_reading(store: Store) -> None:
    headers = [
        ("uptake-step", b"meter"), ("uptake-reason", b"invalid"), ("uptake-detail", b"no user"),
        ("uptake-topic", b"events.usage"), ("uptake-partition", b"4"), ("uptake-offset", b"17"),
        ("uptake-group", b"meter"), ("uptake-replays", b"0"), ("uptake-at", str(NOON).encode()),
    ]  # fmt: skip
    values = [b'{"id":"e1"}\x00\xff', None, b"x" * 2_000_000]
    headed = {i: [h if h[0] != "uptake-offset" else (h[0], str(i).encode()) for h in headers] for i in range(3)}
    batch = a_batch("dead-letters", values, keys=[b"acme|u1", None, b"UPPER|x"], headed=headed)
    await put(store, batch)
    await put(store, batch)
    everything = await queries.list_dead_letters(store, Filter())
    assert [(d.offset, d.reason, d.key) for d in everything] == [
        (0, "invalid", "acme|u1"), (1, "invalid", None), (2, "invalid", "UPPER|x"),
    ]  # fmt: skip
    assert everything[2].value is not None and len(everything[2].value) == 16_384
    assert [d.offset for d in await queries.list_dead_letters(store, Filter(tenant="acme"))] == [0]


async def test_outcomes_are_the_newest_of_each_rule_in_any_order(store: Store) -> None:
    rows = [
        an_outcome_row(version=v, uplift=v / 10, verdict="working" if v == 4 else "no_effect_yet") for v in (4, 2, 3)
    ]
    await put(store, a_batch("outcomes", [*rows, an_outcome_row(rule="J8", verdict="no_effect_yet")]))
    await put(store, a_batch("outcomes", [an_outcome_row(version=1), an_outcome_row(tenant="globex")]))
    found = await queries.list_outcomes(store, tenant="acme")
    assert [(r.rule, r.version, r.uplift) for r in found] == [("J7", 4, 0.4), ("J8", 3, 0.2)]
    assert [r.rule for r in await queries.list_outcomes(store, verdict="working", tenant="acme")] == ["J7"]
    assert [r.tenant for r in await queries.list_outcomes(store, rule="J7")] == ["acme", "globex"]
    assert await queries.list_outcomes(store, product="none") == []


async def test_text_that_a_database_refuses_is_stored_all_the_same(store: Store) -> None:
    odd = "nul\x00 and " + "long" * 1000
    await put(store, a_batch("detections", [a_detection(feature="a\x00b", subject=f"feature:{odd}")]))
    (found,) = await queries.list_detections(store)
    assert found.subject == f"feature:{odd}"


async def test_definitions_are_what_is_in_force_and_never_a_key(store: Store) -> None:
    product = Product(tenant="acme", name="shop", slo=0.99, version=3)
    key = ApiKey(tenant="acme", name="k", hash="ab" * 32, role="quality", created_at=NOON)
    await write_definitions(store, definition_rows([product, key]))
    assert await queries.product_definition(store, "acme", "shop") == product
    await write_definitions(store, [])
    assert await queries.product_definition(store, "acme", "shop") == Product(tenant="acme", name="shop")


async def test_pruning_keeps_what_is_recent_and_every_newest_row(store: Store) -> None:
    old = [an_adoption_row(end=NOON + i * MIN) for i in range(100)]
    await put(store, a_batch("tables.adoption", [*old, an_adoption_row(end=NOON, feature="forgotten")]))
    assert await prune(store, keep={"1h": 10 * MIN}) == 89
    found = await queries.adoption(store, window="1h")
    assert [r.feature for r in found] == ["forgotten", "search"]
    kept = await queries.adoption_history(store, tenant="acme", product="shop", feature="search", window="1h")
    assert len(kept) == 11


async def test_owners_that_meet_in_the_same_rows_do_not_lock_each_other_out(url: str) -> None:
    stores = [await open_store(url) for _ in range(4)]
    products = [Product(tenant="acme", name=f"p{i}") for i in range(30)]

    async def fill(of: int) -> None:
        shuffle = random.Random(of).sample
        for i in range(10):
            rows = [an_adoption_row(feature=f"f{n}", version=of * 10 + i) for n in range(40)]
            await put(stores[of], a_batch("tables.adoption", shuffle(rows, 40), partition=of, first=i))
            await write_definitions(stores[of], definition_rows(list(shuffle(products, 30))))

    await asyncio.gather(*(fill(of) for of in range(4)))
    assert {r.version for r in await queries.adoption(stores[0], window="1h")} == {39}
    for opened in stores:
        await opened.close()


async def test_two_owners_write_at_once(url: str) -> None:
    stores = [await open_store(url) for _ in range(3)]

    async def fill(of: int) -> None:
        for i in range(20):
            rows = [an_adoption_row(end=NOON + i * MIN, feature=f"f{n}", version=of) for n in range(20)]
            await put(stores[of], a_batch("tables.adoption", rows, partition=of, first=i))

    await asyncio.gather(*(fill(of) for of in range(3)))
    found = await queries.adoption(stores[0], window="1h")
    assert [(r.version, r.window_end) for r in found] == [(2, NOON + 19 * MIN)] * 20
    for opened in stores:
        await opened.close()


async def test_a_read_model_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    await (await open_store(f"sqlite:///{path}")).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE meta SET value = '999'")
    with pytest.raises(StoreError, match="made again from the log"):
        await open_store(f"sqlite:///{path}")


@pytest.mark.parametrize("address", ["mysql://x/y", "nonsense", "postgresql://u:hunter2@127.0.0.1:1/x"])
async def test_a_wrong_address_says_what_to_do_and_no_password(address: str) -> None:
    with pytest.raises(StoreError, match="UPTAKE_DATABASE_URL") as caught:
        await open_store(address)
    assert "hunter2" not in str(caught.value)


async def test_another_version_of_the_figures_begins_empty_and_keeps_the_rest(url: str, store: Store) -> None:
    await put(store, a_batch("tables.adoption", [an_adoption_row()], partition=3, first=7))
    await put(store, a_batch("commands.product", [a_command()], partition=3, first=4))
    before = await read_positions(store, "project", 3)
    for figures in (1, 1):
        assert not await show(store, figures)
        assert await read_positions(store, "project", 3) == before == {"tables.adoption": 8, "commands.product": 5}
    writer = Writer(url, 2)
    try:
        assert await writer.positions("project", 3) == {"commands.product": 5}
    finally:
        await writer.close()
    assert await queries.adoption(store, window="1h", at=NOON) == []
    assert (await queries.counts(store))["commands"] == 1
    assert not await show(store, 2) and await show(store, 1)


async def test_a_disk_that_is_full_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """Each way in says `Unavailable`, which PROJECT waits for, and the very same writer works once there is room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = definition_rows([Product(name="shop")])
    writer = Writer(f"sqlite:///{tmp_path}/read-model.db")
    try:
        for room in (0, 4_096, 20_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            try:
                for attempt in (
                    partial(writer.write_definitions, rows),
                    writer.prune,
                    partial(writer.positions, "project", 0),
                ):
                    with pytest.raises(Unavailable):
                        await attempt()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await writer.write_definitions(rows)
        assert await writer.positions("project", 0) == {}
    finally:
        await writer.close()
