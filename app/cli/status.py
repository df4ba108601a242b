"""`uptake status`: how everything stands, and waiting until it has caught up."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from app.api.spool import waiting as spooled
from app.cli.common import FAILED, Refusal, console, line, run, settings_of
from app.cli.options import Json
from app.definitions import load
from app.kafka import bootstrap
from app.settings import Settings
from app.topics import existing
from app.watch import Worker, watermark_s, workers
from schemas.definitions import Pause
from schemas.topics import TOPICS

CALM_LOOKS = 4
"""Looks in a row, half a second apart, that must find no lag: a row on its way from one role to the next is in none."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("status")(status)


def status(
    ctx: typer.Context,
    json: Json = False,
    wait: Annotated[
        float | None, typer.Option(help="Seconds to wait until all workers are ready and have caught up.")
    ] = None,
) -> None:
    """Kafka, topics, workers, lag, pauses. With --wait, exit code 1 where they did not catch up in time."""
    settings = settings_of(ctx)
    calm = run(caught_up(settings, wait)) if wait is not None else None
    found = run(gather(settings))
    if json:
        line(found)
    else:
        _show(found)
    if calm is False:
        raise Refusal(f"not caught up within {wait:g} s: see what is not ready above, and the logs", FAILED)


async def gather(settings: Settings) -> dict[str, Any]:
    """Everything, as JSON."""
    topics = await existing(settings)
    catalogue = await load(settings) if "definitions" in topics else None
    kinds: dict[str, int] = {}
    for definition in catalogue.heads() if catalogue is not None else ():
        kinds[definition.kind] = kinds.get(definition.kind, 0) + 1
    return {
        "kafka": bootstrap(settings),
        "topic_prefix": settings.topic_prefix,
        "topics": len(topics),
        "topics_missing": [settings.topic(t.name) for t in TOPICS if t.name not in topics],
        "definitions": kinds,
        "spool": spooled(settings.spool_path),
        "paused": [p.name for p in catalogue.of(Pause)] if catalogue is not None else [],
        "workers": [
            {
                "worker": w.name,
                "role": w.role,
                "address": w.address,
                "ready": w.ready,
                "tasks": w.detail.get("tasks"),
                "lag": w.detail.get("lag"),
                "not_ready": w.detail.get("not_ready"),
                "degraded": w.detail.get("degraded"),
            }
            for w in await workers(settings, metrics=False)
        ],
    }


async def caught_up(settings: Settings, within_s: float) -> bool:
    """Waits until every worker is ready, METER's watermarks have passed the moment of asking, and then nobody has lag for
    two seconds on end: so what was in the log by then stands in the tables.
    """
    loop = asyncio.get_running_loop()
    asked_s = time.time_ns() / 1e9
    deadline = loop.time() + within_s
    calm = 0
    while calm < CALM_LOOKS:
        calm = calm + 1 if _calm(await workers(settings), asked_s) else 0
        if loop.time() > deadline:
            return False
        await asyncio.sleep(0.5)
    return True


def _calm(found: list[Worker], asked_s: float) -> bool:
    mark = watermark_s(found)
    return (
        bool(found) and (mark is None or mark >= asked_s) and all(w.ready and w.detail.get("lag") == 0 for w in found)
    )


def _show(found: dict[str, Any]) -> None:
    missing = found["topics_missing"]
    topics = f"{found['topics']} topics" + (f", {len(missing)} missing: `uptake topics create`" if missing else "")
    console.print(f"Kafka     {found['kafka']}, {topics}", markup=False)
    console.print(
        f"defined   {', '.join(f'{n} {k}' for k, n in found['definitions'].items()) or 'nothing'}", markup=False
    )
    console.print(f"paused    {', '.join(found['paused']) or 'nothing'}", markup=False)
    if found["spool"]:
        console.print(f"spool     {found['spool']:,} events wait for Kafka on the gateway's disk", markup=False)
    if not found["workers"]:
        console.print("workers   none here: start them with `uptake worker`", markup=False)
    for worker in found["workers"]:
        state = "ready" if worker["ready"] else "not ready"
        console.print(
            f"{worker['worker']:9} {state}, {worker['tasks']} partitions, lag {worker['lag']:,}, "
            f"http://{worker['address']}/metrics",
            markup=False,
        )
        for task, why in (worker["not_ready"] or {}).items():
            console.print(f"          {task}: {why}", markup=False)
        for thing, how in (worker["degraded"] or {}).items():
            console.print(f"          {thing}: {how}", markup=False)
