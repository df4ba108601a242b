"""What waits for approval over HTTP (S2): listed, approved, rejected."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import Caller
from app.api.checking import checked
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant, some_tenant
from app.api.problems import Problem, documented
from app.api.records import Tenant
from app.api.workflows import One
from core.approving import NotPending, decided, find, pending
from schemas.definitions import Definition, Proposal

router = APIRouter(tags=["approvals"])
Approver = Annotated[Caller, Depends(allowed("approvals:write"))]


class Decision(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=2_000)] = ""


@router.get("/approvals", operation_id="listApprovals")
async def list_approvals(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("definitions:read"))],
    tenant: Tenant = None,
    decided: bool = False,
) -> list[Proposal]:
    """What waits, oldest first; with `decided`, the newest decision on each definition too."""
    scope = some_tenant(caller, tenant)
    if not decided:
        return pending(gateway.catalogue, scope)
    found = [p for p in gateway.catalogue.of(Proposal) if scope in (None, p.tenant)]
    return sorted(found, key=lambda p: (p.at, p.tenant, p.name))


@router.post(
    "/approvals/{name}/approve",
    operation_id="approve",
    responses=documented({409: "It does not wait, or you have proposed it yourself."}),
)
async def approve(
    gateway: TheGateway, caller: Approver, name: str, body: Decision | None = None, tenant: One = None
) -> Definition:
    """Publish it. It is checked once more, as it would be if it were published now."""
    scope = one_tenant(caller, tenant)
    found = _find(gateway, scope, name)
    checked(gateway, scope, dict(found.body))
    await _decide(gateway, caller, found, True, body)
    kind, _, of = found.name.partition(":")
    return next(d for d in gateway.catalogue.written() if (d.kind, d.tenant, d.name) == (kind, scope, of))


@router.post(
    "/approvals/{name}/reject",
    operation_id="reject",
    responses=documented({409: "It does not wait."}),
)
async def reject(
    gateway: TheGateway, caller: Approver, name: str, body: Decision | None = None, tenant: One = None
) -> Proposal:
    """Refuse it: what is in force stays."""
    found = _find(gateway, one_tenant(caller, tenant), name)
    (record, *_) = await _decide(gateway, caller, found, False, body)
    assert isinstance(record, Proposal)
    return record


def _find(gateway: Gateway, tenant: str, name: str) -> Proposal:
    try:
        return find(gateway.catalogue, tenant, name)
    except NotPending as error:
        raise Problem(409, "not-pending", str(error)) from error


async def _decide(
    gateway: Gateway, caller: Caller, found: Proposal, approved: bool, body: Decision | None
) -> list[Definition]:
    try:
        written = decided(found, approved, caller.name, gateway.clock(), "" if body is None else body.reason)
    except NotPending as error:
        raise Problem(409, "not-pending", str(error)) from error
    await gateway.publish(written, caller.name)
    return written
