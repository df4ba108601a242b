"""What rules and workflows did, line by line, and why one of them did or did not."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from app.api.access import Caller
from app.api.gateway import TheGateway, allowed, demand, one_tenant, some_tenant
from app.api.problems import Problem, documented
from app.api.records import Before, Limit, Page, Reader, Tenant, cursor_of, page_of
from app.kafka import KafkaError, MissingTopic, NoKafka
from app.store import queries
from app.why import CannotTell, Sources, why
from app.why.ask import ids_of
from core.forgetting import KINDS
from schemas.activity import Activity
from schemas.definitions import Rule, Workflow
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


class Insight(BaseModel):
    """How the automations of a span of event time went. Rates are null where nothing is to be counted."""

    since: Millis
    until: Millis | None
    rules_in_force: int
    workflows_in_force: int
    workflows_paused: int
    workflows_active: int
    """Workflows of which a run did something in the span."""
    runs_began: int
    runs_ended: dict[str, int]
    """By how: completed, goal, exited, expired, cancelled, failed."""
    completion_rate: float | None
    """Runs that were completed or reached their goal, of those that ended."""
    commanded: int
    suppressed: int
    failed: int
    delivered: int
    rejected: int
    action_success_rate: float | None
    """Deliveries that arrived, of those that ended."""


@router.get("/insight", operation_id="getInsight")
async def get_insight(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    since: Annotated[Millis, Query(description="Event time, milliseconds.")] = 0,
    until: Annotated[Millis | None, Query(description="Event time, milliseconds, exclusive.")] = None,
) -> Insight:
    """Workflows in force and active, how runs ended, completion and success rates, from the activity log."""
    scope, catalogue = some_tenant(caller, tenant), gateway.catalogue
    counted = await queries.count_activity(gateway.store, tenant=scope, since=since, until=until)
    ended: dict[str, int] = {}
    by: dict[str, int] = {}
    for _, what, how, lines in counted:
        by[what] = by.get(what, 0) + lines
        if what == "ended" and how is not None:
            ended[how] = ended.get(how, 0) + lines
    workflows = catalogue.of(Workflow, scope)
    paused = [w for w in workflows if any(catalogue.paused(scope or w.tenant, rule=name) for name in {w.id, w.name})]
    done, over = ended.get("completed", 0) + ended.get("goal", 0), sum(ended.values())
    arrived, lost = by.get("delivered", 0), by.get("rejected", 0)
    return Insight(
        since=since,
        until=until,
        rules_in_force=len(catalogue.of(Rule, scope)),
        workflows_in_force=len(workflows),
        workflows_paused=len(paused),
        workflows_active=len({rule for rule, what, _, _ in counted if what in ("began", "entered", "event", "ended")}),
        runs_began=by.get("began", 0),
        runs_ended=ended,
        completion_rate=done / over if over else None,
        commanded=by.get("commanded", 0),
        suppressed=by.get("suppressed", 0),
        failed=by.get("failed", 0),
        delivered=arrived,
        rejected=lost,
        action_success_rate=arrived / (arrived + lost) if arrived + lost else None,
    )


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
