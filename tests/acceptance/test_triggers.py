"""Every trigger that knows time, from raw events through real Kafka: METER and DECIDE run, DECIDE is killed on the way."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from app import definitions, topics
from app.kafka import producer, read
from app.settings import Settings
from core.rulebook import load_rulebook
from schemas.commands import Command
from tests.helpers.roles import start

pytestmark = pytest.mark.kafka

PARTITIONS = 2
MINUTE, HOUR = 60_000, 3_600_000
RULES = Path(__file__).resolve().parents[2] / "rulebook" / "examples" / "triggers.yaml"


def rows(t0: int) -> list[tuple[str, dict[str, Any]]]:
    """Four hours of a few people, in order of time: (topic, event)."""
    found: list[tuple[str, dict[str, Any]]] = []

    def used(user: str, minute: float, feature: str) -> None:
        event = {"type": "feature.used", "user": user, "feature": feature, "occurred_at": t0 + int(minute * MINUTE)}
        found.append(("events.usage", event))

    def asked(user: str, minute: float, status: int) -> None:
        event = {"type": "request.completed", "user": user, "service": "checkout", "latency_ms": 20.0, "status": status}
        found.append(("events.performance", {**event, "occurred_at": t0 + int(minute * MINUTE)}))

    used("anyone", 0.5, "home")
    for minute in (1, 2, 3):
        used("searching", minute, "search")
    for minute in (1, 2, 40):
        used("finding", minute, "search")
    used("blocked", 5, "checkout")
    asked("blocked", 6, 500)
    used("served", 5, "checkout")
    asked("served", 6, 200)
    asked("early", 5, 500)
    used("early", 6, "checkout")
    for user in ("leaving", "buying"):
        used(user, 10, "cart")
    used("buying", 30, "purchase")
    used("leaving", 75, "purchase")
    used("gone", 20, "export")
    for minute in range(20, 240, 30):
        used("here", minute, "export")
    return sorted(found, key=lambda r: r[1]["occurred_at"])


async def send(settings: Settings, some: list[tuple[str, dict[str, Any]]]) -> None:
    async with producer(settings) as made:
        for topic, event in some:
            about = event["service"] if topic == "events.performance" else event["user"]
            word = {
                "id": f"{about}-{event['user']}-{event['occurred_at']}",
                "tenant": "acme",
                "product": "shop",
                **event,
            }
            await made.send(settings.topic(topic), json.dumps(word).encode(), key=f"acme|{about}".encode())
        await made.flush()


async def mark(settings: Settings, kind: str, at: int) -> None:
    marker = {"type": f"uptake.replay.{kind}", "id": f"{kind}-{at}", "replay": "test", "at": at, "act": True}
    if kind == "begun":
        marker["products"] = [["acme", "shop"]]
    async with producer(settings) as made:
        for topic in ("events.usage", "events.performance"):
            for partition in range(PARTITIONS):
                await made.send(settings.topic(topic), json.dumps(marker).encode(), partition=partition)
        await made.flush()


async def commands(settings: Settings) -> list[Command]:
    found = [
        r async for r in read(settings, [f"commands.{d}" for d in ("product", "success", "marketing", "engineering")])
    ]
    return [Command.model_validate_json(r.value) for r in found if r.value is not None]


@pytest.mark.timeout(240)
async def test_each_fires_once_and_the_others_are_silent(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    await definitions.publish(settings, load_rulebook({"triggers.yaml": RULES.read_text()}))
    t0 = (time.time_ns() // 1_000_000 // HOUR - 8) * HOUR
    expected = {
        ("example.searching", "user:searching", t0 + 3 * MINUTE),
        ("example.checkout-fails", "user:blocked", t0 + 6 * MINUTE),
        ("example.cart", "user:leaving", t0 + 70 * MINUTE),
        ("example.quiet", "user:gone", t0 + 80 * MINUTE),
        *(("example.hourly", "product:shop", t0 + h * HOUR) for h in (1, 2, 3, 4)),
    }
    everything = rows(t0)
    await mark(settings, "begun", t0)
    await send(settings, [r for r in everything if r[1]["occurred_at"] < t0 + HOUR])
    await mark(settings, "progressed", t0 + HOUR)
    meter, decide = await start(settings, "meter"), await start(settings, "decide")
    try:
        async with asyncio.timeout(90):
            while len(await commands(settings)) < 2:
                await asyncio.sleep(0.3)
        decide.send_signal(signal.SIGKILL)
        await decide.wait()
        await send(settings, [r for r in everything if r[1]["occurred_at"] >= t0 + HOUR])
        await mark(settings, "progressed", t0 + 4 * HOUR + MINUTE)
        decide = await start(settings, "decide")
        async with asyncio.timeout(90):
            while len(found := await commands(settings)) < len(expected):
                await asyncio.sleep(0.3)
        for process in (meter, decide):
            process.send_signal(signal.SIGTERM)
        assert [await asyncio.wait_for(p.wait(), 60) for p in (meter, decide)] == [0, 0]
        found = await commands(settings)
    finally:
        for process in (meter, decide):
            if process.returncode is None:
                process.kill()
    assert sorted((c.rule, c.subject, c.issued_at) for c in found) == sorted(expected)
    (cart,) = (c for c in found if c.rule == "example.cart")
    assert cart.payload["left_at"] == t0 + 10 * MINUTE and "did not" in cart.why.reason
