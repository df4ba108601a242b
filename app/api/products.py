"""A product over HTTP: its figures now, how they came about, its configuration, its users."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ValidationError

from app.api.access import Caller
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant, some_tenant
from app.api.members import Inactivity, MemberPage, UserProfile, Which
from app.api.problems import Problem, documented, errors_of, not_found
from app.store import queries
from core.predict.inactivity import LEAST_USERS
from core.predict.population import MOST_DAYS
from schemas.definitions import DefinitionName, Product
from schemas.detections import Detection
from schemas.envelope import Millis
from schemas.tables import AdoptionRow, HealthRow, Stage, WindowName

router = APIRouter(tags=["products"])
HISTORY = 500
"""Most points of one series."""
_LAST_ID = "\U0010ffff"
"""Behind every id."""

At = Annotated[Millis | None, Query(description="Event time, milliseconds; absent: the newest figures there are.")]
Tenant = Annotated[str | None, Query(description="Needed with a key for all tenants.")]


class Metrics(BaseModel):
    """A product's figures at one moment."""

    tenant: str
    product: str
    window: WindowName
    at: Millis | None
    """End of the window shown; null where there are no figures yet."""
    features: list[AdoptionRow]
    health: HealthRow | None


class FeatureTrend(BaseModel):
    """A feature's rows, oldest first, and how its rate moved over them."""

    feature: str
    rows: list[AdoptionRow]
    rate_change: float | None
    """Newest rate less the oldest; null where one of them is unknown."""


class Analytics(BaseModel):
    """How a product's figures came about within a span of event time."""

    tenant: str
    product: str
    window: WindowName
    since: Millis
    until: Millis | None
    stages: dict[Stage, int]
    """How many features stand in each stage at the end of the span."""
    viral: list[str]
    features: list[FeatureTrend]
    health: list[HealthRow]
    detections: list[Detection]
    commands_by_rule: dict[str, int]


@router.get("/products", operation_id="listProducts")
async def list_products(
    gateway: TheGateway, caller: Annotated[Caller, Depends(allowed("tables:read"))], tenant: Tenant = None
) -> list[queries.ProductSeen]:
    """Products that have figures."""
    return await queries.products(gateway.store, tenant=some_tenant(caller, tenant))


@router.get("/products/{product_id:path}/metrics", operation_id="getMetrics")
async def get_metrics(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("tables:read"))],
    product_id: str,
    tenant: Tenant = None,
    window: WindowName = "7d",
    at: At = None,
) -> Metrics:
    """Adoption of every feature and the product's explained health, in the last window closed at `at`."""
    scope = one_tenant(caller, tenant)
    rows = await queries.adoption(gateway.store, window=window, at=at, tenant=scope, product=product_id)
    health = await queries.health_rows(gateway.store, at=at, tenant=scope, product=product_id)
    if not rows and not health:
        await _known(gateway, scope, product_id)
    end = max((r.window_end for r in rows), default=None)
    return Metrics(
        tenant=scope,
        product=product_id,
        window=window,
        at=end if end is not None else next((h.at for h in health), None),
        features=rows,
        health=health[0] if health else None,
    )


@router.get("/products/{product_id:path}/analytics", operation_id="getAnalytics")
async def get_analytics(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("tables:read"))],
    product_id: str,
    tenant: Tenant = None,
    window: WindowName = "1d",
    since: Annotated[Millis, Query(description="Event time, milliseconds.")] = 0,
    until: Annotated[Millis | None, Query(description="Event time, milliseconds, inclusive.")] = None,
    feature: Annotated[str | None, Query(description="Only this one.")] = None,
) -> Analytics:
    """Trends of adoption and health, and what was found and ordered because of them."""
    scope = one_tenant(caller, tenant)
    latest = await queries.adoption(gateway.store, window=window, at=until, tenant=scope, product=product_id)
    if not latest:
        await _known(gateway, scope, product_id)
    trends = []
    for row in latest:
        if feature is not None and row.feature != feature:
            continue
        rows = await queries.adoption_history(
            gateway.store,
            tenant=scope,
            product=product_id,
            feature=row.feature,
            window=window,
            since=since,
            until=until,
            limit=HISTORY,
        )
        trends.append(_trend(row.feature, rows[::-1]))
    stages: dict[Stage, int] = {}
    for row in latest:
        stages[row.stage] = stages.get(row.stage, 0) + 1
    store = gateway.store
    behind = None if until is None else (until + 1, _LAST_ID)
    found = await queries.list_detections(store, tenant=scope, product=product_id, before=behind, limit=HISTORY)
    return Analytics(
        tenant=scope,
        product=product_id,
        window=window,
        stages=stages,
        viral=[r.feature for r in latest if r.viral],
        features=trends,
        health=(
            await queries.health_history(
                gateway.store, tenant=scope, product=product_id, since=since, until=until, limit=HISTORY
            )
        )[::-1],
        detections=[d for d in found if d.at >= since],
        commands_by_rule=await queries.commands_by_rule(
            store, tenant=scope, product=product_id, since=since, until=until
        ),
        since=since,
        until=until,
    )


class Configuration(Product):
    """A product's settings as they are put: tenant, name and version come from the request."""

    name: str = ""


@router.get("/products/{product_id:path}/configuration", operation_id="getConfiguration")
async def get_configuration(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("definitions:read"))],
    product_id: DefinitionName,
    tenant: Tenant = None,
) -> Product:
    """The settings in force; the defaults where nobody set any."""
    return _product(gateway, one_tenant(caller, tenant), product_id)


@router.put(
    "/products/{product_id:path}/configuration",
    operation_id="putConfiguration",
    responses=documented(
        {
            409: "The tenant has as many definitions as it may.",
            412: "Another version than `If-Match` names is in force.",
        }
    ),
)
async def put_configuration(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("product:write"))],
    product_id: DefinitionName,
    body: Configuration,
    tenant: Tenant = None,
    if_match: Annotated[str | None, Header(description="The version that the change is made to.")] = None,
) -> Product:
    """Write the product's settings as a new version of its definition; in force when this answers.

    What is left out has its default. The same settings again change nothing and keep the version.
    """
    scope = one_tenant(caller, tenant)
    current = _current(gateway, scope, product_id)
    if if_match is not None and if_match.strip('"') != str(current.version if current else 0):
        there = current.version if current else 0
        raise Problem(412, "changed-meanwhile", f"the version in force is {there}: read it, change it, send it again")
    try:
        wanted = Product.model_validate({**body.model_dump(), "tenant": scope, "name": product_id, "version": 1})
    except ValidationError as error:
        listed = errors_of(error)
        raise Problem(422, "invalid-definition", f"{listed[0]['at']}: {listed[0]['why']}", errors=listed) from error
    if current is None:
        gateway.quotas.definitions(caller, scope, sum(d.tenant == scope for d in gateway.catalogue.heads()))
    await gateway.publish([wanted])
    return _product(gateway, scope, product_id)


@router.get("/products/{product_id:path}/segments/{feature:path}/{which}/members", operation_id="listMembers")
async def list_members(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("members:read"))],
    product_id: str,
    feature: str,
    which: Which,
    tenant: Tenant = None,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> MemberPage:
    """The users whom a command for many is about, in order of their ids, page by page."""
    return await gateway.members.page(one_tenant(caller, tenant), product_id, feature, which, after, limit)


@router.get("/products/{product_id:path}/inactivity", operation_id="getInactivity")
async def get_inactivity(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("members:read"))],
    product_id: str,
    user: Annotated[str, Query(description="Whose.")],
    tenant: Tenant = None,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS, description="How far ahead.")] = 7,
) -> Inactivity:
    """How likely a user does nothing in the next days, by what became of users of the product who stood likewise."""
    found = await gateway.members.inactivity(one_tenant(caller, tenant), product_id, user, days)
    if found is None:
        more = f"no event of this user was seen, or fewer than {LEAST_USERS} users teach: ask again when there are more"
        raise not_found("inactivity of user", user, more)
    return found


@router.get("/products/{product_id:path}/users/{user:path}", operation_id="getUser")
async def get_user(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("members:read"))],
    product_id: str,
    user: str,
    tenant: Tenant = None,
) -> UserProfile:
    """First and last event, frequency, active days and what led to the first use, as of METER's last checkpoint."""
    found = await gateway.members.profile(one_tenant(caller, tenant), product_id, user)
    if found is None:
        raise not_found("user", user, "send an event of this user first, or look whether the product's name is right")
    return found


def _product(gateway: Gateway, tenant: str, name: str) -> Product:
    found = _current(gateway, tenant, name)
    return found if found is not None else gateway.catalogue.product(tenant, name)


def _current(gateway: Gateway, tenant: str, name: str) -> Product | None:
    return next((p for p in gateway.catalogue.of(Product) if (p.tenant, p.name) == (tenant, name)), None)


async def _known(gateway: Gateway, tenant: str, name: str) -> None:
    """Raises `Problem` 404 where nobody has sent events of the product nor defined it."""
    if _current(gateway, tenant, name) is not None:
        return
    if not any(p.product == name for p in await queries.products(gateway.store, tenant=tenant)):
        raise not_found("product", name, "GET /api/v1/products lists those with figures; send it events first")


def _trend(feature: str, rows: list[AdoptionRow]) -> FeatureTrend:
    first = rows[0].adoption_rate if rows else None
    last = rows[-1].adoption_rate if rows else None
    return FeatureTrend(feature=feature, rows=rows, rate_change=None if first is None or last is None else last - first)
