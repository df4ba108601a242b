"""Workflows over HTTP (K3): those in force, new ones, pause and go on, and what came of their runs."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, JsonValue

from app.api.access import Caller
from app.api.checking import checked, text_of
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant, some_tenant
from app.api.problems import Problem, documented, not_found
from app.api.proposing import WAITING, publish_or_propose
from app.api.records import Reader, Tenant
from app.store import runs as kept
from app.store.runs import RunResults
from schemas.definitions import ALL_TENANTS, Definition, Pause, Rule, Workflow, pause_name

router = APIRouter(tags=["workflows"])
Status = Literal["active", "paused"]
One = Annotated[str | None, Query(description="Needed with a key for all tenants.")]
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Workflow"}}},
    }
}


class Active(BaseModel):
    """A workflow that is in force and not paused."""

    id: str
    name: str
    tenant: str
    version: int
    description: str
    publish: str
    runs: dict[str, int]
    """Status → runs, of the tenants that the key may see."""


class StatusWanted(BaseModel):
    """Whether a workflow or rule shall act."""

    model_config = ConfigDict(extra="forbid")

    status: Status


class StatusShown(StatusWanted):
    """Whether it acts."""

    id: str
    name: str


class Results(BaseModel):
    """What came of a workflow's runs."""

    id: str
    name: str
    version: int
    """In force."""
    versions: list[RunResults]
    commands: dict[str, int]
    """Type → commands given."""


@router.get("/workflows/active", operation_id="activeWorkflows")
async def active(
    gateway: TheGateway, caller: Annotated[Caller, Depends(allowed("definitions:read"))], tenant: Tenant = None
) -> list[Active]:
    """Workflows in force that are not paused, with how their runs stand."""
    scope = some_tenant(caller, tenant)
    counted = await kept.active(gateway.store, scope)
    found: list[Active] = []
    for one in sorted(gateway.catalogue.of(Workflow, scope), key=lambda w: (w.tenant, w.name)):
        if any(gateway.catalogue.paused(scope or one.tenant, rule=name) for name in {one.id, one.name}):
            continue
        runs: dict[str, int] = {}
        for (owner, name), by_status in counted.items():
            if name == one.name and one.tenant in (owner, ALL_TENANTS):
                for status, n in by_status.items():
                    runs[status] = runs.get(status, 0) + n
        known = {name: getattr(one, name) for name in ("id", "name", "tenant", "version", "description", "publish")}
        found.append(Active(**known, runs=runs))
    return found


@router.post(
    "/workflows/create",
    operation_id="createWorkflow",
    status_code=201,
    openapi_extra=_BODY,
    response_model=Workflow,
    responses=WAITING
    | documented({409: "There is a workflow of that name, or the tenant has as many definitions as it may."}),
)
async def create(
    request: Request,
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("rule:write"))],
    body: Annotated[dict[str, JsonValue], Body()],
    tenant: One = None,
) -> Any:
    """Define a workflow. What is wrong with it is answered with line, path and reason. `PUT /definitions/workflow/NAME` changes it."""
    scope = one_tenant(caller, tenant)
    wanted = checked(gateway, scope, {**body, "kind": "workflow"}, await text_of(request))
    return await created(gateway, caller, scope, wanted)


@router.put("/workflows/{id}/status", operation_id="putWorkflowStatus")
async def put_status(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("pause:write"))],
    id: str,
    body: StatusWanted,
    tenant: One = None,
) -> StatusShown:
    """Pause a workflow (it begins no runs, and those that go on order nothing), or let it act again."""
    scope = one_tenant(caller, tenant)
    return await set_status(gateway, caller, scope, workflow_of(gateway, scope, id), body.status)


@router.get("/workflows/{id}/results", operation_id="getWorkflowResults")
async def results(gateway: TheGateway, caller: Reader, id: str, tenant: One = None) -> Results:
    """How its runs ended, by version, and what it ordered."""
    scope = one_tenant(caller, tenant)
    found = workflow_of(gateway, scope, id)
    of = None if scope == ALL_TENANTS else scope
    return Results(
        id=found.id,
        name=found.name,
        version=found.version,
        versions=await kept.results(gateway.store, of, found.name),
        commands=await kept.commands_of(gateway.store, of, found.id),
    )


async def created(gateway: Gateway, caller: Caller, scope: str, wanted: Definition) -> Any:
    """Publish (or propose) what is not there yet. Raises `Problem` 409 where it is."""
    same = [d for d in gateway.catalogue.heads() if (d.kind, d.tenant, d.name) == (wanted.kind, scope, wanted.name)]
    if same:
        move = f"PUT /api/v1/definitions/{wanted.kind}/{wanted.name} changes it"
        raise Problem(409, "name-taken", f"there is a {wanted.kind} {wanted.name!r} already: {move}")
    gateway.quotas.definitions(caller, scope, sum(d.tenant == scope for d in gateway.catalogue.heads()))
    return await publish_or_propose(gateway, caller, wanted)


async def set_status(gateway: Gateway, caller: Caller, scope: str, of: Workflow | Rule, status: Status) -> StatusShown:
    """Pause it for this tenant, or let it act again; the same again changes nothing."""
    pause = Pause(tenant=scope, name=pause_name("rule", of.id), scope="rule", of=of.id, by=caller.name)
    there = [p for p in gateway.catalogue.of(Pause) if (p.tenant, p.name) == (scope, pause.name)]
    if status == "paused" and not there:
        await gateway.publish([pause], caller.name)
    if status == "active" and there:
        await gateway.retire(there[0])
    return StatusShown(id=of.id, name=of.name, status=status)


def workflow_of(gateway: Gateway, tenant: str, id_: str) -> Workflow:
    """By its id or name, the tenant's own before everybody's. Raises `Problem` 404."""
    found = [w for w in gateway.catalogue.of(Workflow, tenant) if id_ in (w.id, w.name)]
    if not found:
        raise not_found("workflow", id_, "GET /api/v1/workflows/active lists those in force")
    return max(found, key=lambda w: (w.tenant == tenant, w.id == id_))
