"""Runs in the read model: as their newest record has them, whatever the order of batches; who stands where, results, retention."""

from __future__ import annotations

import msgspec
import numpy as np
from sqlalchemy import select

from app.store import Store
from app.store import runs as kept
from app.store.forget import forget
from app.store.tables import METADATA
from app.store.write import write
from core.batch import Batch
from core.definitions import Catalogue
from core.forgetting import Forgetting, digest
from core.project import project
from core.workflows.desk import Came, Desk, Occurrence
from core.workflows.handover import arrive, leave
from core.workflows.jobs import Pause
from core.workflows.shelf import Shelf
from schemas.definitions import Forgotten, Workflow
from tests.core.workflows.build import T0, H, act, workflow

WAIT = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1h"}, "next": "b"}
DAY = 86_400_000


class _Rows:
    def key(self, row: int) -> bytes | None:
        return b"acme|user:u"


def flow() -> Workflow:
    return workflow(act("a", "w"), WAIT, act("b"), goals=["bought"])


async def put(store: Store, came: list[Came], at: int = T0, forgotten: Forgetting | None = None) -> None:
    values = [msgspec.json.encode(one.record) for one in came]
    n = len(values)
    made = project(Batch("runs", 0, list(values), np.arange(n), np.full(n, at), n, _Rows()), forgotten)
    assert [e for e in made.effects if type(e).__name__ == "DeadLetter"] == []
    await write(store, made.rows, role="project", topic="runs", partition=0, next_offset=1)


def happened(desk: Desk, subject: str, type_: str, at: int, tenant: str = "acme") -> list[Came]:
    what = Occurrence(tenant, "shop", f"user:{subject}", f"{type_}-{subject}-{at}", at, "events.usage", {"type": type_})
    return desk.happened(what, at)


def a_desk() -> Desk:
    catalogue = Catalogue()
    catalogue.put(flow())
    return Desk(Shelf(catalogue))


async def test_a_run_is_as_its_newest_record_says(store: Store) -> None:
    desk = a_desk()
    begun = happened(desk, "ann", "go", T0)
    ended = desk.advance(T0 + 2 * H, T0 + 2 * H)
    await put(store, ended)
    await put(store, begun)
    (run,) = await kept.list_runs(store, tenant="acme")
    assert (run.status, run.jobs, run.began, run.at, run.places) == ("completed", 2, T0, T0 + H, [])
    assert [r.seq for r in await kept.history(store, run.id)] == [1, 2]
    assert await kept.get_run(store, run.id, "other") is None
    assert (await kept.beginnings(store, [run.id]))[run.id]["type"] == "go"
    await put(store, begun)
    assert (await kept.list_runs(store, tenant="acme"))[0].status == "completed"


async def test_who_stands_where_and_what_came_of_them(store: Store) -> None:
    desk = a_desk()
    came = [one for n in range(6) for one in happened(desk, f"u{n}", "go", T0 + n)]
    ids = [one.record.run for one in came]
    came += happened(desk, "u0", "bought", T0 + H // 2)
    came += desk.told(ids[1], Pause(T0 + H // 2, "ann"), T0)
    came += happened(desk, "far", "go", T0, "other")
    await put(store, came)
    assert await kept.standing(store, "acme", "w") == {(1, ("w",), False): 4, (1, ("w",), True): 1}
    assert sum((await kept.standing(store, None, "w")).values()) == 6
    (results,) = await kept.results(store, "acme", "w")
    assert (results.runs, results.going, results.paused, results.ended) == (6, 5, 1, {"goal bought": 1})
    assert results.reached_goal == 1.0
    assert await kept.active(store, "acme") == {("acme", "w"): {"running": 5, "goal": 1}}
    page = await kept.list_runs(store, tenant="acme", limit=4)
    rest = await kept.list_runs(store, tenant="acme", before=(page[-1].began, page[-1].id))
    assert [r.id for r in [*page, *rest]] == ids[::-1]
    at_w = await kept.list_runs(store, tenant="acme", node="w", status="running")
    assert len(at_w) == 5 and await kept.list_runs(store, tenant="acme", node="%") == []


async def test_what_ended_long_ago_goes_and_what_goes_on_stays(store: Store) -> None:
    desk = a_desk()
    old = happened(desk, "ann", "go", T0) + happened(desk, "bob", "go", T0)
    ended = desk.advance(T0 + H, T0 + H)[:1]
    await put(store, old + ended)
    assert await kept.prune(store) == 0
    await put(store, happened(a_desk(), "eve", "go", T0 + 91 * DAY), T0 + 91 * DAY)
    assert await kept.prune(store) == 4
    assert {r.status for r in await kept.list_runs(store, tenant="acme")} == {"running"}


async def test_who_is_forgotten_is_not_there(store: Store) -> None:
    catalogue = Catalogue()
    salt = "0" * 64
    name = digest(salt, "acme", "user:ann")
    catalogue.put(Forgotten(tenant="acme", name=name, of="user", salt=salt, asked_at=T0))
    desk = a_desk()
    await put(store, happened(desk, "ann", "go", T0) + happened(desk, "bob", "go", T0), T0, Forgetting(catalogue))
    assert [r.subject for r in await kept.list_runs(store, tenant="acme")] == ["user:bob"]


async def test_a_run_that_follows_an_alias_is_forgotten_under_either_name(store: Store) -> None:
    for name in ("user:anon", "user:ann"):
        former, known = a_desk(), a_desk()
        await put(store, happened(former, "anon", "go", T0))
        await put(store, happened(former, "bob", "go", T0))
        _, rows = leave(former, "acme", "user:anon", T0 + H // 2, T0)
        came = [c for row in rows for c in arrive(known, "acme", "user:ann", "user:anon", *row, T0 + H // 2, "x", T0)]
        await put(store, came)
        assert sorted(r["subject"] for r in await rows_of(store)) == ["user:ann", "user:bob"]
        catalogue, salt = Catalogue(), "5a" * 32
        catalogue.put(Forgotten(tenant="acme", name=digest(salt, "acme", name), of="user", salt=salt, asked_at=T0))
        forgotten = Forgetting(catalogue)
        assert await forget(store, forgotten) > 0
        assert [r["subject"] for r in await rows_of(store)] == ["user:bob"]
        await put(store, came, forgotten=forgotten)
        assert [r["subject"] for r in await rows_of(store)] == ["user:bob"]


async def rows_of(store: Store) -> list[dict[str, object]]:
    async with store.reader.begin() as connection:
        return [dict(r) for r in (await connection.execute(select(METADATA.tables["runs"]))).mappings()]
