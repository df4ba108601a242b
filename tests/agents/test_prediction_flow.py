"""events → METER → predictions → DECIDE and ORCHESTRATE → commands on a real Kafka, METER killed on the way: each once."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app import definitions, topics
from app.definitions import load
from app.kafka import producer, read
from app.settings import Settings
from app.store import open_store
from app.why import Sources, why
from schemas.definitions import DEFINITION
from tests.core.meter.logs import T0, Record, batch
from tests.core.predict.test_watch import DAY, DAYS, LOG, a_prediction, known, run
from tests.helpers.roles import Process, start

pytestmark = pytest.mark.kafka

ORDER = {"type": "marketing.offer.send", "title": "{{ subject }}", "text": "{{ because }}"}
RULE = DEFINITION.validate_python(
    {
        "kind": "rule",
        "name": "offer",
        "id": "J12",
        "trigger": {"kind": "prediction", "prediction": "leaving"},
        "command": ORDER,
        "ceiling_per_hour": 1_000,
    }
)
JOURNEY = DEFINITION.validate_python(
    {
        "kind": "workflow",
        "name": "retain",
        "id": "J12.w",
        "trigger": {"kind": "prediction", "prediction": "leaving"},
        "condition": "probability > 0.7",
        "start": "task",
        "nodes": [{"kind": "act", "id": "task", "command": {**ORDER, "type": "success.task.create"}}],
    }
)


async def words(settings: Settings, topic: str) -> list[dict[str, Any]]:
    return [json.loads(r.value) async for r in read(settings, [topic]) if r.value is not None]


async def until(
    settings: Settings, topic: str, enough: Callable[[list[dict[str, Any]]], bool] = bool
) -> list[dict[str, Any]]:
    """Everything on the topic, once it is enough: idle clocks add findings of days that end meanwhile, in between."""
    async with asyncio.timeout(150):
        while not enough(found := await words(settings, topic)):
            await asyncio.sleep(0.3)
    return found


def moved(log: list[Record], by: int) -> list[Record]:
    """The log as if it had happened later."""
    rows = [json.loads(r.value or b"") for r in log]
    return [
        replace(r, value=json.dumps({**row, "occurred_at": row["occurred_at"] + by}).encode(), at=r.at + by)
        for r, row in zip(log, rows, strict=True)
    ]


@pytest.fixture
async def processes() -> AsyncIterator[list[Process]]:
    """Ended with the test, however it ends."""
    started: list[Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_who_falls_silent_is_told_of_and_who_stays_is_not(
    kafka: str, prefix: str, tmp_path: Path, processes: list[Process]
) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=1, replication=1)
    await topics.create(settings)
    await definitions.publish(settings, [a_prediction(), RULE, JOURNEY])
    today = time.time_ns() // 1_000_000 // DAY * DAY
    log = moved(LOG, today - DAYS * DAY - T0)
    expected = [s["data"] for s in run([batch(log)], known())]
    crossed = [d for d in expected if d["kind"] == "prediction_crossed"]
    async with producer(settings) as made:
        for record in log:
            await made.send(settings.topic("events.usage"), record.value, key=record.key)
        await made.flush()
    for role in ("meter", "decide", "orchestrate", "project"):
        processes.append(await start(settings, role))
    await until(settings, "signals")
    processes[0].send_signal(signal.SIGKILL)
    await processes[0].wait()
    left = settings.run_dir / "targets" / "meter-0.json"
    left.unlink()  # what the killed one could not take away
    processes[0] = await start(settings, "meter")
    async with asyncio.timeout(120):
        while not left.exists():  # a process that has not begun cannot end in order
            await asyncio.sleep(0.1)
    wanted, causes = {d["id"] for d in expected}, {d["id"] for d in crossed}
    found = await until(settings, "detections", lambda rows: {r["id"] for r in rows} >= wanted)
    offers = await until(settings, "commands.marketing", lambda rows: {r["cause"] for r in rows} >= causes)
    tasks = await until(settings, "commands.success", lambda rows: "user:falls" in {r["subject"] for r in rows})

    found = [d for d in found if d["kind"].startswith("prediction_")]  # the feature enters a stage, too
    ids = {d["id"] for d in found}
    assert len(ids) == len(found), "each once"
    assert [d for d in found if d["id"] not in wanted and d["at"] < today] == [], (
        "others are of days that the clock ended"
    )
    by_id = {d["id"]: d for d in found}
    assert all(by_id[d["id"]]["probability"] == d["probability"] for d in expected)
    assert "user:falls" in {c["subject"] for c in offers}
    assert "user:stays" not in {c["subject"] for c in offers} | {c["subject"] for c in tasks}

    store = await open_store(settings.store_url)
    sources = Sources(settings, store, await load(settings))
    async with asyncio.timeout(60):
        while (fired := await why(sources, "acme", "offer", "user:falls", product="app")).verdict != "fired":
            await asyncio.sleep(0.5)
    assert "probability of" in fired.reason and "last seen" in fired.reason
    stays = await why(sources, "acme", "offer", "user:stays", product="app")
    assert stays.verdict in ("nothing_seen", "not_met"), stays
    await store.close()
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
