"""Analyses that commands link to: as JSON for programs, as a page with its plot for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from app.api.access import Caller
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant
from app.api.problems import not_found
from app.api.products import HISTORY
from app.store import queries
from core.analysis.correlation import Pair, Series, correlate
from core.analysis.page import correlation_page, return_page
from core.analysis.returns import Deal, returns
from schemas.envelope import Millis
from schemas.tables import WindowName

router = APIRouter(tags=["analyses"])

Tenant = Annotated[str | None, Query(description="Needed with a key for all tenants.")]
Feature = Annotated[str, Query(description="Which feature the others are held beside.")]
Until = Annotated[Millis | None, Query(description="Event time, milliseconds, inclusive; absent: the newest there is.")]
Money = Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False)]


class Beside(BaseModel):
    """Another feature: how its adoption rate changes with the one asked about."""

    feature: str
    changes: int
    correlation: float | None
    low: float | None
    high: float | None
    clear: bool


class Correlation(BaseModel):
    """Which features go together with this one."""

    tenant: str
    product: str
    feature: str
    window: WindowName
    until: Millis | None
    others: list[Beside]


class Returned(BaseModel):
    """What the product returns to a customer. Money is in the currency that was given."""

    benefit_month: float
    cost_month: float
    cumulative: list[float]
    payback_month: int | None
    roi_first_year: float | None
    present_value: float


def _deal(
    users: Annotated[int, Query(ge=1, le=10_000_000)],
    price_month: Money,
    hours_saved_month: Money,
    hour_cost: Money,
    set_up_cost: Money = 0.0,
    months: Annotated[int, Query(ge=1, le=120)] = 36,
    discount_year: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.08,
) -> Deal:
    return Deal(users, price_month, hours_saved_month, hour_cost, set_up_cost, months, discount_year)


TheDeal = Annotated[Deal, Depends(_deal)]
Reader = Annotated[Caller, Depends(allowed("tables:read"))]


@router.get("/products/{product_id:path}/analyses/correlation", operation_id="getCorrelation")
async def get_correlation(
    gateway: TheGateway,
    caller: Reader,
    product_id: str,
    feature: Feature,
    tenant: Tenant = None,
    window: WindowName = "1d",
    until: Until = None,
) -> Correlation:
    """Every other feature of the product: the correlation of the changes of their adoption rates, with its 95 % interval."""
    scope = one_tenant(caller, tenant)
    pairs = await _pairs(gateway, scope, product_id, feature, window, until)
    others = [Beside(**asdict(p), clear=p.clear) for p in pairs]
    return Correlation(tenant=scope, product=product_id, feature=feature, window=window, until=until, others=others)


@router.get(
    "/products/{product_id:path}/analyses/correlation.html",
    operation_id="getCorrelationPage",
    response_class=HTMLResponse,
)
async def get_correlation_page(
    gateway: TheGateway,
    caller: Reader,
    product_id: str,
    feature: Feature,
    tenant: Tenant = None,
    window: WindowName = "1d",
    until: Until = None,
) -> HTMLResponse:
    """The same as a page with its plot."""
    scope = one_tenant(caller, tenant)
    pairs = await _pairs(gateway, scope, product_id, feature, window, until)
    return HTMLResponse(correlation_page(scope, product_id, feature, pairs))


@router.get("/products/{product_id:path}/analyses/return", operation_id="getReturn")
async def get_return(
    gateway: TheGateway, caller: Reader, product_id: str, deal: TheDeal, tenant: Tenant = None
) -> Returned:
    """What the product returns to a customer, month by month, from the customer's own figures."""
    one_tenant(caller, tenant)
    return Returned(**asdict(returns(deal)))


@router.get(
    "/products/{product_id:path}/analyses/return.html", operation_id="getReturnPage", response_class=HTMLResponse
)
async def get_return_page(
    gateway: TheGateway, caller: Reader, product_id: str, deal: TheDeal, tenant: Tenant = None
) -> HTMLResponse:
    """The same as a page with its plot."""
    return HTMLResponse(return_page(one_tenant(caller, tenant), product_id, deal, returns(deal)))


async def _pairs(
    gateway: Gateway, tenant: str, product: str, feature: str, window: WindowName, until: int | None
) -> list[Pair]:
    """Raises `Problem` 404 where the feature has no figures."""
    latest = await queries.adoption(gateway.store, window=window, at=until, tenant=tenant, product=product)
    series: dict[str, Series] = {}
    for row in latest:
        rows = await queries.adoption_history(
            gateway.store,
            tenant=tenant,
            product=product,
            feature=row.feature,
            window=window,
            since=0,
            until=until,
            limit=HISTORY,
        )
        series[row.feature] = [(r.window_end, r.adoption_rate) for r in rows[::-1] if r.adoption_rate is not None]
    if feature not in series:
        raise not_found("figures of feature", feature, "GET …/metrics lists the features that have some")
    return correlate(series, feature)
