"""Whether rules help: what each measured rule has done so far, and the newest report of each product."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.gateway import TheGateway, some_tenant
from app.api.records import Reader, Tenant
from app.store import queries
from schemas.detections import Detection
from schemas.outcomes import OutcomeRow, Verdict

router = APIRouter(tags=["outcomes"])


@router.get("/outcomes", operation_id="listOutcomes")
async def outcomes(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    product: str | None = None,
    rule: str | None = None,
    verdict: Verdict | None = None,
) -> list[OutcomeRow]:
    """Uplift, interval and verdict of every measured rule, by tenant, product and rule."""
    scope = some_tenant(caller, tenant)
    return await queries.list_outcomes(gateway.store, tenant=scope, product=product, rule=rule, verdict=verdict)


@router.get("/outcomes/reports", operation_id="listOutcomeReports")
async def reports(
    gateway: TheGateway, caller: Reader, tenant: Tenant = None, product: str | None = None, limit: int = 10
) -> list[Detection]:
    """The reports on outcomes, newest first: how products moved, how fast commands arrived, which rules worked."""
    return await queries.list_detections(
        gateway.store,
        tenant=some_tenant(caller, tenant),
        product=product,
        kind="outcome_report",
        limit=min(max(limit, 1), 100),
    )
