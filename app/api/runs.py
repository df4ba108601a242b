"""Runs of workflows over HTTP: lists, one with its history, words to many at once, and who stands where."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.access import Caller
from app.api.checking import checked
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant, some_tenant
from app.api.problems import Problem, not_found
from app.api.records import Before, Limit, Page, Reader, Tenant, cursor_of, page_of
from app.api.spool import Outgoing
from app.runs import library_of, word
from app.store import runs as kept
from app.store.runs import RunRow
from core.rules.conditions import flatten, holds
from core.workflows.jobs import Record
from core.workflows.standing import Preview, Word, preview
from schemas.conditions import Bounded
from schemas.definitions import DefinitionName, Workflow
from schemas.workflows import NodeId

router = APIRouter(tags=["runs"])
AT_ONCE = 10_000
"""Runs that one request may speak to."""
_PAGE = 1_000


class Line(BaseModel):
    """A line of a run's activity log."""

    at: int
    step: str
    what: str
    detail: dict[str, JsonValue]


class RunShown(RunRow):
    """A run with its activity log."""

    log: list[Line]
    commands: list[str]
    """Ids of the commands that it gave, in order."""


class Spoken(BaseModel):
    """What is said to which runs."""

    model_config = ConfigDict(extra="forbid")

    workflow: DefinitionName
    version: int | None = None
    node: NodeId | None = None
    """Only those that wait at this node, or in its body."""
    where: Bounded = None
    """Only those for whose trigger this holds, as CEL or as a tree."""
    runs: Annotated[list[str], Field(max_length=AT_ONCE)] | None = None
    """Only these, by id."""
    nodes: Annotated[dict[NodeId, NodeId], Field(max_length=2_000)] = Field(default_factory=dict)
    """Of `move`: node of the version before → node at which its runs go on."""
    undo: bool = False
    """Of `cancel`: take their commands back first."""
    dry_run: bool = False


class Told(BaseModel):
    """How many runs were told (or would be)."""

    word: Word
    runs: int
    versions: dict[int, int]
    """Version → runs."""
    dry_run: bool


@router.get("/runs", operation_id="listRuns")
async def list_runs(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    workflow: str | None = None,
    version: int | None = None,
    status: str | None = None,
    subject: str | None = None,
    node: str | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> Page[RunRow]:
    """Runs of workflows, the newest beginning first."""
    found = await kept.list_runs(
        gateway.store,
        tenant=some_tenant(caller, tenant),
        workflow=workflow,
        version=version,
        status=status,
        subject=subject,
        node=node,
        before=cursor_of(before),
        limit=limit + 1,
    )
    return page_of(found, [(r.began, r.id) for r in found], limit)


@router.get("/runs/{id}", operation_id="getRun")
async def get_run(gateway: TheGateway, caller: Reader, id: str, tenant: Tenant = None) -> RunShown:
    """One run, with its activity log."""
    found, records = await _one(gateway, caller, id, tenant)
    log = [Line(at=n.at, step=n.step, what=n.what, detail=n.detail) for r in records for n in r.notes]
    return RunShown(**found.model_dump(), log=log, commands=[c for r in records for c in r.commands])


@router.post("/runs/{word}", operation_id="tellRuns", status_code=202)
async def tell_runs(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("runs:write"))],
    word: Word,
    body: Spoken,
    tenant: Annotated[str | None, Query(description="Needed with a key for all tenants.")] = None,
) -> Told:
    """Cancel, pause, resume or move the runs that are meant. Each takes it as a job of its own, with your key's name in its log."""
    scope = one_tenant(caller, tenant)
    found = await meant(gateway, scope, body)
    versions: dict[int, int] = {}
    for run in found:
        versions[run.version] = versions.get(run.version, 0) + 1
    if not body.dry_run:
        data: dict[str, JsonValue] = {"by": caller.name}
        if word == "cancel":
            data["compensate"] = body.undo
        if word == "move":
            data["nodes"] = dict(body.nodes)
        await gateway.write([_told(run, word, data, gateway.clock()) for run in found])
    return Told(word=word, runs=len(found), versions=versions, dry_run=body.dry_run)


@router.post("/workflows/{id}/preview", operation_id="previewWorkflow")
async def preview_workflow(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("rule:write"))],
    id: DefinitionName,
    body: dict[str, JsonValue],
    tenant: Annotated[str | None, Query(description="Needed with a key for all tenants.")] = None,
) -> Preview:
    """Who stands where in the workflow of this name, and what publishing this definition would do to each. Nothing is published."""
    scope = one_tenant(caller, tenant)
    wanted = checked(gateway, scope, {**body, "kind": "workflow", "name": id})
    assert isinstance(wanted, Workflow)
    standing = await kept.standing(gateway.store, scope, wanted.name)
    library = await gateway.reading(library_of(gateway.settings))
    return preview(library, scope, wanted, standing)


async def meant(gateway: Gateway, tenant: str, body: Spoken) -> list[RunRow]:
    """The runs that go on and are meant. Raises `Problem` 422 where they are too many."""
    found: list[RunRow] = []
    before: kept.Cursor | None = None
    while True:
        page = await kept.list_runs(
            gateway.store,
            tenant=tenant,
            workflow=body.workflow,
            version=body.version,
            status="running",
            node=body.node,
            before=before,
            limit=_PAGE,
        )
        found += page if body.where is None else await _where(gateway, page, body.where)
        if body.runs is not None:
            wanted = set(body.runs)
            found = [run for run in found if run.id in wanted]
        if len(found) > AT_ONCE:
            raise Problem(422, "too-many-runs", f"more than {AT_ONCE} runs are meant: narrow it, or use `uptake runs`")
        if len(page) < _PAGE:
            return found
        before = (page[-1].began, page[-1].id)


async def _where(gateway: Gateway, page: list[RunRow], condition: Bounded) -> list[RunRow]:
    facts = await kept.beginnings(gateway.store, [run.id for run in page])
    return [
        run
        for run in page
        if condition is None
        or holds(condition, flatten({**facts.get(run.id, {}), "subject": run.subject, "began": run.began}))
    ]


async def _one(gateway: Gateway, caller: Caller, id_: str, tenant: str | None) -> tuple[RunRow, list[Record]]:
    found = await kept.get_run(gateway.store, id_, some_tenant(caller, tenant))
    if found is None:
        raise not_found("run", id_, "GET /api/v1/runs lists those that are known")
    return found, await kept.history(gateway.store, id_)


def _told(run: RunRow, kind: str, data: dict[str, JsonValue], now: int) -> Outgoing:
    place, value = word(run.id, run.tenant, run.subject, kind, data, now)
    return Outgoing(topic="signals", key=place, value=value)
