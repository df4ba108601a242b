"""What was found, ordered and done: lists, newest first, and the trace of one id through all of them."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from app.api.access import Caller
from app.api.gateway import TheGateway, allowed, some_tenant
from app.api.problems import Problem, not_found
from app.store import queries
from app.store.trace import Trace, trace
from schemas.commands import Command, Domain
from schemas.delivery import Receipt, SinkRecord
from schemas.detections import Detection

router = APIRouter(tags=["records"])
T = TypeVar("T")
Reader = Annotated[Caller, Depends(allowed("records:read"))]
Tenant = Annotated[str | None, Query(description="Absent: the key's own; with a key for all tenants, all.")]
Before = Annotated[str | None, Query(description="Only what is older: `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=1_000)]
Status = Literal["delivered", "retrying", "rejected", "suppressed", "failed"]


class Page(BaseModel, Generic[T]):
    """Some rows, newest first, and where the next page begins."""

    items: list[T]
    next: str | None
    """Give it as `before`; null: there is no more."""


@router.get("/detections", operation_id="listDetections")
async def detections(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    product: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> Page[Detection]:
    """Findings: stages and bands entered, thresholds crossed and cleared, anomalies and their ends."""
    found = await queries.list_detections(
        gateway.store,
        tenant=some_tenant(caller, tenant),
        product=product,
        kind=kind,
        subject=subject,
        before=cursor_of(before),
        limit=limit + 1,
    )
    return page_of(found, [(d.at, d.id) for d in found], limit)


@router.get("/commands", operation_id="listCommands")
async def commands(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    product: str | None = None,
    domain: Domain | None = None,
    rule: str | None = None,
    subject: str | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> Page[Command]:
    """Orders to act, each with its reasons."""
    found = await queries.list_commands(
        gateway.store,
        tenant=some_tenant(caller, tenant),
        product=product,
        domain=domain,
        rule=rule,
        subject=subject,
        before=cursor_of(before),
        limit=limit + 1,
    )
    return page_of(found, [(c.issued_at, c.id) for c in found], limit)


@router.get("/receipts", operation_id="listReceipts")
async def receipts(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    product: str | None = None,
    status: Status | None = None,
    command: str | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> Page[Receipt]:
    """Every attempt, and every suppression with its reason."""
    found = await queries.list_receipts(
        gateway.store,
        tenant=some_tenant(caller, tenant),
        product=product,
        status=status,
        command=command,
        before=cursor_of(before),
        limit=limit + 1,
    )
    return page_of(found, [(r.at, r.id) for r in found], limit)


@router.get("/deliveries", operation_id="listDeliveries")
async def deliveries(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    product: str | None = None,
    status: Status | None = None,
    command: str | None = None,
    before: Before = None,
    limit: Limit = 100,
) -> Page[Receipt]:
    """Where each delivery stands: its newest receipt."""
    found = await queries.list_deliveries(
        gateway.store,
        tenant=some_tenant(caller, tenant),
        product=product,
        status=status,
        command=command,
        before=cursor_of(before),
        limit=limit + 1,
    )
    return page_of(found, [(r.at, r.id) for r in found], limit)


@router.get("/sink", operation_id="listSink")
async def sink(gateway: TheGateway, caller: Reader, tenant: Tenant = None, limit: Limit = 100) -> list[SinkRecord]:
    """What the built-in sink received: everything that is sandboxed, newest first."""
    return await queries.list_sink(gateway.store, tenant=some_tenant(caller, tenant), limit=limit)


@router.get("/trace/{id}", operation_id="getTrace")
async def get_trace(gateway: TheGateway, caller: Reader, id: str, tenant: Tenant = None) -> Trace:
    """Everything that hangs together with an event's, detection's, command's or delivery's id.

    A role that may not read dead letters gets the trace without them.
    """
    found = await trace(gateway.store, id, tenant=some_tenant(caller, tenant))
    if not caller.may("dead_letters:read"):
        found = found.model_copy(update={"dead_letters": []})
    if found.found == "nothing":
        raise not_found("event, detection, command or delivery", id, "only what led to something has a trace")
    return found


def page_of(found: list[T], names: list[queries.Cursor], limit: int) -> Page[T]:
    """A page of rows named by (time, id). One row more than it takes was asked for, so the last page is known to be the last."""
    if len(found) <= limit:
        return Page(items=found, next=None)
    at, id = names[limit - 1]
    return Page(items=found[:limit], next=f"{at}~{id}")


def cursor_of(text: str | None) -> queries.Cursor | None:
    """`before` as the query takes it. Raises `Problem` 422."""
    if text is None:
        return None
    at, mark, id = text.partition("~")
    if not mark or not at.isdecimal() or len(at) > 18:
        raise Problem(422, "bad-cursor", "`before` is not the `next` of a page: begin again without it")
    return int(at), id
