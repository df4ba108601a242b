"""How it runs: the status of everything at once, the page that shows it, and the probes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.api.access import Caller
from app.api.gateway import TheGateway, allowed, some_tenant
from app.api.progress import Progress
from app.store import queries
from schemas.commands import Command
from schemas.definitions import ALL_TENANTS, Pause
from schemas.delivery import Receipt, SinkRecord
from schemas.detections import Detection
from schemas.envelope import Millis
from schemas.tables import AdoptionRow, HealthRow

router = APIRouter(tags=["status"])
probes = APIRouter(tags=["status"])
page = APIRouter(include_in_schema=False)
NEWEST = 20
STATIC = Path(__file__).parent / "static"


class ProductStatus(BaseModel):
    """Where a product stands."""

    tenant: str
    product: str
    watermark: Millis | None
    """Newest window end that was judged, event time."""
    health: HealthRow | None
    features: list[AdoptionRow]


class Status(BaseModel):
    """Everything at once, for the status page and for people in a hurry."""

    progress: Progress | None
    """Null for a key of one tenant (the log is everybody's), or where Kafka does not answer."""
    products: list[ProductStatus]
    counts: dict[str, int]
    paused: list[str]
    detections: list[Detection]
    commands: list[Command]
    deliveries: list[Receipt]
    sink: list[SinkRecord]


@router.get("/status", operation_id="getStatus")
async def get_status(
    gateway: TheGateway, caller: Annotated[Caller, Depends(allowed("status:read"))], tenant: str | None = None
) -> Status:
    """Throughput, lag, watermarks, stages, bands, and the newest detections, commands and deliveries."""
    scope = some_tenant(caller, tenant)
    store = gateway.store
    progress = None
    if scope is None:
        try:
            progress = await gateway.watch.progress()
        except KafkaError:
            progress = None
    return Status(
        progress=progress,
        products=await _products(gateway, scope),
        counts=await queries.counts(store, tenant=scope),
        paused=[p.name for p in gateway.catalogue.of(Pause) if scope is None or p.tenant in (scope, ALL_TENANTS)],
        detections=await queries.list_detections(store, tenant=scope, limit=NEWEST),
        commands=await queries.list_commands(store, tenant=scope, limit=NEWEST),
        deliveries=await queries.list_deliveries(store, tenant=scope, limit=NEWEST),
        sink=await queries.list_sink(store, tenant=scope, limit=NEWEST),
    )


async def _products(gateway: TheGateway, scope: str | None) -> list[ProductStatus]:
    found = []
    for seen in await queries.products(gateway.store, tenant=scope):
        window = (await queries.product_definition(gateway.store, seen.tenant, seen.product)).stage_window
        tenant, product = seen.tenant, seen.product
        rows = await queries.adoption(gateway.store, window=window, tenant=tenant, product=product)
        fine = await queries.adoption(gateway.store, window="5m", tenant=tenant, product=product)
        health = await queries.health_rows(gateway.store, tenant=tenant, product=product)
        ends = [r.window_end for r in (*rows, *fine)]
        found.append(
            ProductStatus(
                tenant=tenant,
                product=product,
                watermark=max(ends, default=None),
                health=health[0] if health else None,
                features=rows,
            )
        )
    return found


# --- probes -------------------------------------------------------------------------------------------------------------


@probes.get("/livez", operation_id="live")
async def live(gateway: TheGateway) -> JSONResponse:
    """The process answers, and goes on following the definitions; where not, restart it."""
    failure = gateway.following()
    return _probe(
        {"definitions": "followed" if failure is None else f"ended: {type(failure).__name__}"}, failure is None
    )


@probes.get("/readyz", operation_id="ready")
async def ready(gateway: TheGateway) -> JSONResponse:
    """Kafka and the read model answer. With a spool that has room, events are taken while Kafka is away."""
    checks: dict[str, str] = {}
    try:
        await gateway.watch.reachable()
        checks["kafka"] = "answers"
    except (KafkaError, TimeoutError, OSError) as error:
        checks["kafka"] = type(error).__name__
    try:
        async with gateway.store.reader.begin() as connection:
            await connection.execute(text("SELECT 1"))
        checks["read_model"] = "answers"
    except (SQLAlchemyError, OSError) as error:
        checks["read_model"] = type(error).__name__
    holds = set(checks.values()) == {"answers"}
    if (spool := gateway.spool) is not None:
        holds = checks["read_model"] == "answers" and (checks["kafka"] == "answers" or not spool.full)
        checks["spool"] = f"{spool.events} events wait, {spool.bytes / spool.most_bytes:.0%} full"
    return _probe(checks, holds)


@probes.get("/startedz", operation_id="started")
async def started(gateway: TheGateway) -> JSONResponse:
    """The gateway is open: it does not answer at all before."""
    return _probe({}, True)


@probes.get("/metrics", operation_id="prometheus", response_class=Response)
async def prometheus(gateway: TheGateway) -> Response:
    """Metrics of the gateway's process in Prometheus' text format."""
    return Response(gateway.telemetry.text(), media_type=CONTENT_TYPE_LATEST)


def _probe(detail: dict[str, Any], holds: bool) -> JSONResponse:
    return JSONResponse({"ok": holds, **detail}, 200 if holds else 503)


# --- the page -----------------------------------------------------------------------------------------------------------


@page.get("/")
async def root() -> FileResponse:
    """The status page. It holds no data: it asks for it with the key that its visitor has."""
    return FileResponse(STATIC / "index.html", media_type="text/html")


@page.get("/static/{name}")
async def static(name: str) -> Response:
    """The page's script and style."""
    kinds = {"status.js": "text/javascript", "status.css": "text/css"}
    if name not in kinds:
        return Response(status_code=404)
    return FileResponse(STATIC / name, media_type=kinds[name])
