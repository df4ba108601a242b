"""What rules and workflows did, line by line, and why one of them did or did not."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.api.access import Caller
from app.api.gateway import TheGateway, allowed, demand, one_tenant, some_tenant
from app.api.problems import Problem, documented
from app.api.records import Before, Limit, Page, Reader, Tenant, cursor_of, page_of
from app.insight import Insight, insight
from app.kafka import KafkaError, MissingTopic, NoKafka
from app.store import queries
from app.why import CannotTell, Sources, why
from app.why.ask import ids_of
from core.forgetting import KINDS
from schemas.activity import Activity
from schemas.envelope import Millis
from schemas.why import Answer

router = APIRouter(tags=["records"])


@router.get("/activity", operation_id="listActivity")
async def activity(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    rule: Annotated[str | None, Query(description="Name or id of a rule or workflow.")] = None,
    subject: Annotated[str | None, Query(description="`kind:name`.")] = None,
    product: str | None = None,
    from_: Annotated[Millis | None, Query(alias="from", description="Event time, milliseconds.")] = None,
    to: Annotated[Millis | None, Query(description="Event time, milliseconds, exclusive.")] = None,
    before: Before = None,
    limit: Limit = 100,
) -> Page[Activity]:
    """Firings (commanded, suppressed with the reason, failed), deliveries, and every step of runs; kept for 90 days."""
    scope = some_tenant(caller, tenant)
    found = await queries.list_activity(
        gateway.store,
        tenant=scope,
        rules=None if rule is None else ids_of(gateway.catalogue, scope, rule),
        subject=subject,
        product=product,
        since=from_,
        until=to,
        before=cursor_of(before),
        limit=limit + 1,
    )
    return page_of(found, [(line.at, line.id) for line in found], limit)


@router.get("/insight", operation_id="getInsight")
async def get_insight(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    since: Annotated[Millis, Query(description="Event time, milliseconds.")] = 0,
    until: Annotated[Millis | None, Query(description="Event time, milliseconds, exclusive.")] = None,
) -> Insight:
    """Workflows in force and active, how runs ended, completion and success rates, from the activity log."""
    return await insight(gateway.store, gateway.catalogue, some_tenant(caller, tenant), since, until)


@router.get(
    "/why",
    operation_id="getWhy",
    responses=documented(
        {422: "The rule, the subject or the product is not told exactly enough; the detail says which."}
    ),
)
async def get_why(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("records:read"))],
    rule: Annotated[str, Query(description="Name or id of a rule or workflow.")],
    subject: Annotated[str, Query(description="`kind:name`, as user:ann, feature:export, product:shop.")],
    tenant: Annotated[str | None, Query(description="Needed with a key for all tenants.")] = None,
    product: Annotated[str | None, Query(description="Needed where the subject is in several.")] = None,
    at: Annotated[Millis | None, Query(description="Event time, milliseconds; absent: now.")] = None,
) -> Answer:
    """Why a rule or workflow fired for a subject, or why it did not: every predicate with its value, the watermark, what is missing.

    About people it tells what they did, so it needs a role that may read members.
    """
    scope = one_tenant(caller, tenant)
    if subject.partition(":")[0] in (*KINDS, "account"):
        demand(caller, "members:read")
    try:
        async with gateway.asking:
            sources = Sources(gateway.settings, gateway.store, gateway.catalogue)
            return await why(sources, scope, rule, subject, product=product, at=at)
    except CannotTell as error:
        raise Problem(422, "cannot-tell", str(error)) from error
    except (KafkaError, NoKafka, MissingTopic) as error:
        raise Problem(
            503, "log-unreadable", f"the log cannot be read now ({error}): try again", headers={"retry-after": "5"}
        ) from error
