"""Live segments over HTTP: who is in one, page by page, and what is kept of one person."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import Annotated, Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel

from app.api.access import Caller
from app.api.gateway import TheGateway, allowed, one_tenant
from app.api.problems import Problem
from app.people import in_segment, profiles_of
from schemas.definitions import Segment
from schemas.envelope import Millis
from transport.state import StateFormatError

router = APIRouter(tags=["segments"])
_reading = asyncio.Semaphore(1)
"""The state of every partition is read for an answer: one question at a time."""
Reader = Annotated[Caller, Depends(allowed("members:read"))]
Tenant = Annotated[str | None, Query(description="Needed with a key for all tenants.")]


class SegmentPage(BaseModel):
    """Some of a segment's people, in order of their names."""

    segment: str
    product: str
    of: str
    """Of which kind they are: user, contact or account."""
    size: int
    """Of the whole segment, as of `read_at`: the last checkpoints."""
    read_at: Millis
    members: list[str]
    next: str | None
    """Give it as `after`; null: there is no more."""


class PersonPage(BaseModel):
    """What is kept of a person or an account, by product."""

    tenant: str
    subject: str
    read_at: Millis
    products: dict[str, dict[str, Any]]


@router.get("/segments/{name}/members", operation_id="listSegment")
async def list_segment(
    gateway: TheGateway,
    caller: Reader,
    name: str,
    tenant: Tenant = None,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> SegmentPage:
    """Who is in a defined segment: those it lists, and those whose profiles meet it."""
    scope = one_tenant(caller, tenant)
    mine = sorted(gateway.catalogue.of(Segment, scope), key=lambda s: s.tenant != scope)
    segment = next((s for s in mine if s.name == name), None)
    if segment is None:
        raise Problem(404, "not-found", f"no segment {name!r}: `GET /definitions/segment` lists them")
    found = set(segment.users)
    if segment.where is not None:
        async with _reading:
            found |= set(await _read(in_segment(gateway.settings, scope, segment.product, name)))
    names = sorted(found)
    first = 0 if after is None else bisect_right(names, after)
    page = names[first : first + limit]
    return SegmentPage(
        segment=name,
        product=segment.product,
        of=segment.of,
        size=len(names),
        read_at=gateway.clock(),
        members=page,
        next=page[-1] if page and first + limit < len(names) else None,
    )


@router.get("/people/{subject:path}", operation_id="getPerson")
async def get_person(
    gateway: TheGateway,
    caller: Reader,
    subject: Annotated[str, Path(description="`user:NAME`, `contact:NAME` or `account:NAME`.", max_length=512)],
    tenant: Tenant = None,
) -> PersonPage:
    """What is kept of a person or an account, as of the last checkpoint; empty where nothing is."""
    scope = one_tenant(caller, tenant)
    async with _reading:
        products = await _read(profiles_of(gateway.settings, scope, subject))
    return PersonPage(tenant=scope, subject=subject, read_at=gateway.clock(), products=products)


async def _read(question: Any) -> Any:
    try:
        return await question
    except (KafkaError, StateFormatError) as error:
        raise Problem(
            503, "state-unreadable", f"the state cannot be read now ({error}): try again", headers={"retry-after": "5"}
        ) from error
