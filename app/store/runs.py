"""Runs of workflows in the read model: lists, histories, who stands where, results; and how long they stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
from pydantic import BaseModel, JsonValue
from sqlalchemy import and_, delete, func, or_, select

from app.store.asking import rows
from app.store.engine import Store
from app.store.tables import commands, run_records, runs
from core.workflows.jobs import Record
from core.workflows.standing import Where

Cursor = tuple[int, str]
"""When the last run of a page began, and its id."""
KEPT_MS = 90 * 86_400_000
"""How far behind the newest record ended runs and their histories are kept: as long as the topic `runs`."""
_CHUNK = 500
_record = msgspec.json.Decoder(Record).decode


class RunRow(BaseModel):
    """A run, as its newest record has it."""

    id: str
    tenant: str
    product: str
    subject: str
    workflow: str
    version: int
    began: int
    at: int
    """Event time of the newest job."""
    status: str
    outcome: str
    paused: bool
    places: list[str]
    """Where it waits: nodes, behind those whose bodies they are in."""
    jobs: int


class RunResults(BaseModel):
    """What came of a workflow's runs of one version."""

    version: int
    runs: int
    going: int
    paused: int
    ended: dict[str, int]
    """Status (and outcome, where it has one) → runs."""
    reached_goal: float | None
    """Share of the ended runs that reached a goal; null: none has ended."""


async def list_runs(
    store: Store,
    *,
    tenant: str | None,
    workflow: str | None = None,
    version: int | None = None,
    status: str | None = None,
    subject: str | None = None,
    node: str | None = None,
    before: Cursor | None = None,
    limit: int = 100,
) -> list[RunRow]:
    """Runs, the newest beginning first; `before` pages."""
    t = runs.c
    wanted = {"tenant": tenant, "workflow": workflow, "version": version, "status": status, "subject": subject}
    where = [t[name] == value for name, value in wanted.items() if value is not None]
    if node is not None:
        where.append(t.nodes.like(f"%|{_escaped(node)}|%", escape="\\"))
    if before is not None:
        where.append(or_(t.began < before[0], and_(t.began == before[0], t.id > before[1])))
    found = await rows(store, select(runs).where(*where).order_by(t.began.desc(), t.id).limit(limit))
    return [_row(row) for row in found]


async def get_run(store: Store, id_: str, tenant: str | None) -> RunRow | None:
    """One run; None where there is none of that id, or it is another tenant's."""
    where = [runs.c.id == id_, *([runs.c.tenant == tenant] if tenant is not None else [])]
    found = await rows(store, select(runs).where(*where))
    return _row(found[0]) if found else None


async def history(store: Store, run: str) -> list[Record]:
    """The run's records, in order."""
    wanted = select(run_records.c.body).where(run_records.c.run == run).order_by(run_records.c.seq)
    return [_record(row["body"]) for row in await rows(store, wanted)]


async def beginnings(store: Store, ids: Sequence[str]) -> dict[str, dict[str, JsonValue]]:
    """Run → the fields of its trigger."""
    found: dict[str, dict[str, JsonValue]] = {}
    for start in range(0, len(ids), _CHUNK):
        of = run_records.c
        wanted = select(of.run, of.body).where(of.seq == 1, of.run.in_(list(ids[start : start + _CHUNK])))
        for row in await rows(store, wanted):
            found[row["run"]] = orjson.loads(row["body"])["job"].get("data", {})
    return found


async def standing(store: Store, tenant: str | None, workflow: str) -> dict[Where, int]:
    """How many of the workflow's runs stand where."""
    t = runs.c
    where = [t.workflow == workflow, t.status == "running", *([t.tenant == tenant] if tenant is not None else [])]
    grouped = select(t.version, t.places, t.paused, func.count().label("n")).where(*where)
    found: dict[Where, int] = {}
    for row in await rows(store, grouped.group_by(t.version, t.places, t.paused)):
        found[row["version"], tuple(orjson.loads(row["places"])), bool(row["paused"])] = row["n"]
    return found


async def results(store: Store, tenant: str | None, workflow: str) -> list[RunResults]:
    """By version, newest first."""
    t = runs.c
    where = [t.workflow == workflow, *([t.tenant == tenant] if tenant is not None else [])]
    grouped = select(t.version, t.status, t.outcome, t.paused, func.count().label("n")).where(*where)
    made: dict[int, RunResults] = {}
    for row in await rows(store, grouped.group_by(t.version, t.status, t.outcome, t.paused)):
        one = made.setdefault(
            row["version"],
            RunResults(version=row["version"], runs=0, going=0, paused=0, ended={}, reached_goal=None),
        )
        one.runs += row["n"]
        if row["status"] == "running":
            one.going += row["n"]
            one.paused += row["n"] if row["paused"] else 0
        else:
            name = f"{row['status']} {row['outcome']}".strip()
            one.ended[name] = one.ended.get(name, 0) + row["n"]
    for one in made.values():
        ended = sum(one.ended.values())
        goals = sum(n for name, n in one.ended.items() if name.split(" ")[0] == "goal")
        one.reached_goal = goals / ended if ended else None
    return sorted(made.values(), key=lambda r: -r.version)


async def commands_of(store: Store, tenant: str | None, rule: str) -> dict[str, int]:
    """Command type → how many the workflow (by its id) has given."""
    t = commands.c
    where = [t.rule == rule, *([t.tenant == tenant] if tenant is not None else [])]
    found = await rows(store, select(t.type, func.count().label("n")).where(*where).group_by(t.type).order_by(t.type))
    return {row["type"]: row["n"] for row in found}


async def active(store: Store, tenant: str | None) -> dict[tuple[str, str], dict[str, int]]:
    """(tenant, workflow) → status → runs."""
    t = runs.c
    grouped = select(t.tenant, t.workflow, t.status, func.count().label("n"))
    where = [t.tenant == tenant] if tenant is not None else []
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in await rows(store, grouped.where(*where).group_by(t.tenant, t.workflow, t.status)):
        found.setdefault((row["tenant"], row["workflow"]), {})[row["status"]] = row["n"]
    return found


async def prune(store: Store) -> int:
    """Drop histories that are older than is kept, and runs that ended as long ago; how many rows went."""
    went = 0
    async with store.writer.begin() as connection:
        newest = (await connection.execute(select(func.max(run_records.c.recorded_at)))).scalar()
        if newest is None:
            return 0
        old = newest - KEPT_MS
        gone = await connection.execute(delete(run_records).where(run_records.c.recorded_at < old))
        went += gone.rowcount
        gone = await connection.execute(delete(runs).where(runs.c.recorded_at < old, runs.c.status != "running"))
        return went + gone.rowcount


def _row(row: Any) -> RunRow:
    known = {name: row[name] for name in RunRow.model_fields if name not in ("places", "jobs")}
    return RunRow(**known, places=orjson.loads(row["places"]), jobs=row["seq"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
