"""The gateway, put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI

from app.api import (
    analyses,
    approvals,
    automations,
    events,
    hooks,
    letters,
    outcomes,
    problems,
    products,
    records,
    runs,
    segments,
    status,
    subjects,
    triggers,
    workflows,
)
from app.api import definitions as definition_routes
from app.api import why as why_routes
from app.api.access import Keys
from app.api.gateway import Gateway, wall_clock
from app.api.limits import BodyLimit, Measured, SecurityHeaders
from app.api.members import Members
from app.api.progress import Watch
from app.api.quotas import Quotas
from app.api.replica import Replica
from app.api.spool import Spool
from app.clients.reach import Reach
from app.definitions import Definitions
from app.kafka import admin, consumer, producer
from app.settings import Settings
from app.store import open_store
from app.telemetry import Telemetry

VERSION: Final = "1.0.0"
"""Of the HTTP interface."""
_ABOUT: Final = """
Events in, figures and decisions out. Every request to `/api/v1` carries an API key as a bearer token; a key belongs to
one tenant (or to all) and to a role. Errors are `application/problem+json` and name the next move.
"""


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def build_api(
    settings: Settings, *, telemetry: Telemetry | None = None, clock: Callable[[], int] = wall_clock
) -> FastAPI:
    """The gateway as an ASGI application; it opens Kafka and the read model when it starts.

    Starting raises `app.kafka.NoKafka`, `app.kafka.MissingTopic` or `app.store.StoreError`, each with the next move.
    """
    metrics = telemetry or Telemetry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            following = Definitions(settings)
            stack.push_async_callback(following.stop)
            catalogue = await following.start()
            store = await open_store(settings.store_url)
            stack.push_async_callback(store.close)
            spool = None
            if settings.api_spool_mb:
                spool = Spool(settings.spool_path, settings.api_spool_mb << 20, metrics)
                stack.callback(spool.close)
            gateway = app.state.gateway = Gateway(
                settings=settings,
                store=store,
                catalogue=catalogue,
                producer=await stack.enter_async_context(producer(settings, linger_ms=2)),
                telemetry=metrics,
                keys=Keys(catalogue),
                quotas=Quotas(settings, metrics, time.monotonic),
                members=Members(Replica(settings, store, catalogue), clock),
                watch=Watch(
                    settings,
                    await stack.enter_async_context(consumer(settings)),
                    await stack.enter_async_context(admin(settings)),
                    clock,
                ),
                reach=Reach.from_settings(settings),
                clock=clock,
                following=lambda: following.failure,
                spool=spool,
            )
            if spool is not None:
                draining = asyncio.create_task(spool.drain(gateway.write))
                stack.push_async_callback(_ended, draining)
            yield

    app = FastAPI(
        title="Uptake",
        version=VERSION,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    v1 = APIRouter(prefix="/api/v1", responses=problems.RESPONSES)
    for module in (
        *(events, hooks, analyses, products, triggers, definition_routes, workflows, automations),
        *(approvals, records, outcomes, runs, why_routes, letters, subjects, segments, status),
    ):
        v1.include_router(module.router)
    app.include_router(v1)
    app.include_router(hooks.calls)
    app.include_router(status.probes)
    app.include_router(status.page)
    problems.install(app)
    app.add_middleware(BodyLimit, most=settings.api_max_body_bytes)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Measured, telemetry=metrics, router=app.router)
    return app
