"""A live system on real Kafka, its archive, and a backtest that orders the same, id for id."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from app import definitions, topics
from app.backtest import Wanted, backtest
from app.kafka import producer, read
from app.settings import Settings
from core.archive import COMMANDS
from core.rulebook import load_rulebook
from schemas.definitions import CommandTemplate, Connection, OnEvent, Rule, Workflow
from tests.acceptance.test_triggers import mark, work

pytestmark = pytest.mark.kafka

PARTITIONS = 2
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
TRIGGERS = Path(__file__).resolve().parents[2] / "rulebook" / "examples" / "triggers.yaml"
ROLES = ("meter", "decide", "deliver", "orchestrate", "archive")
TYPE = "success.user.help"


def greeting(feature: str, **more: Any) -> Rule:
    """A rule on a single event; its second version waits for another feature."""
    template = CommandTemplate(type=TYPE, title="{{ feature }}", text="{{ subject }}")
    where = {"kind": "compare", "field": "feature", "op": "==", "value": feature}
    trigger = OnEvent.model_validate({"topic": "events.usage", "where": where})
    return Rule(name="greet", id="greet", trigger=trigger, command=template, cooldown_s=DAY // 1000, **more)


def asking() -> Workflow:
    """A run that orders, waits, and orders again."""
    order = {"type": TYPE, "title": "{{ feature }}", "text": "{{ subject }}"}
    return Workflow.model_validate(
        {
            "name": "asking",
            "id": "asking",
            "trigger": {
                "kind": "event",
                "topic": "events.usage",
                "where": {"kind": "compare", "field": "feature", "op": "==", "value": "cart"},
            },
            "start": "first",
            "lasts": "3d",
            "nodes": [
                {"kind": "act", "id": "first", "command": order, "next": "pause"},
                {"kind": "wait", "id": "pause", "until": {"kind": "span", "span": "2h"}, "next": "second"},
                {"kind": "act", "id": "second", "command": order},
            ],
        }
    )


def days(t0: int, first: int, last: int) -> list[dict[str, Any]]:
    """Some people's usage, an event every seven minutes."""
    features = ("home", "search", "cart", "checkout", "export")
    found = []
    for n, at in enumerate(range(t0 + first * DAY, t0 + last * DAY, 7 * MINUTE)):
        user, feature = f"u{n * 7 % 23}", features[n * n % 5 if n % 11 else 2]
        found.append({"type": "feature.used", "user": user, "feature": feature, "occurred_at": at})
    return found


async def send(settings: Settings, some: list[dict[str, Any]]) -> None:
    async with producer(settings) as made:
        for event in some:
            word = {"id": f"{event['user']}-{event['occurred_at']}", "tenant": "acme", "product": "shop", **event}
            await made.send(
                settings.topic("events.usage"), json.dumps(word).encode(), key=f"acme|{event['user']}".encode()
            )
        await made.flush()


async def ids(settings: Settings) -> dict[str, str]:
    """Id → rule of every command that was sent."""
    found = {}
    async for record in read(settings, COMMANDS):
        body = json.loads(record.value or b"{}")
        assert body["id"] not in found
        found[body["id"]] = body["rule"]
    return found


async def until_still(settings: Settings, more_than: int) -> dict[str, str]:
    """Until commands have come and no more do."""
    found: dict[str, str] = {}
    still = 0
    async with asyncio.timeout(100):
        while still < 6 or len(found) <= more_than:
            await asyncio.sleep(0.5)
            now = await ids(settings)
            still = still + 1 if now == found else 0
            found = now
    return found


@pytest.mark.long
@pytest.mark.timeout(280)
async def test_the_past_gives_the_commands_that_were_sent(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    hook = Connection(name="sink", integration="webhook", config={"url": "https://example.com/hook"})
    await definitions.publish(
        settings, [*load_rulebook({"triggers.yaml": TRIGGERS.read_text()}), greeting("search"), asking(), hook]
    )
    t0 = (time.time_ns() // 1_000_000 // DAY - 12) * DAY
    processes = [await work(settings, role) for role in ROLES]
    try:
        await mark(settings, "begun", t0)
        await send(settings, days(t0, 0, 2))
        await mark(settings, "progressed", t0 + 2 * DAY)
        before = await until_still(settings, 20)
        await definitions.publish(settings, [greeting("export")])
        await asyncio.sleep(2)
        await send(settings, days(t0, 2, 4))
        await mark(settings, "progressed", t0 + 5 * DAY)
        live = await until_still(settings, len(before) + 20)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [await asyncio.wait_for(p.wait(), 60) for p in processes] == [0] * len(ROLES)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
    assert {"greet", "asking", "example.quiet"} <= set(live.values())
    wanted = Wanted(settings.archive_place, PARTITIONS, processes=1, rows_a_cut=200)
    found = await asyncio.to_thread(backtest, wanted)
    assert (found.missing, found.extra) == ([], [])
    assert {c.id: c.rule for c in found.commands} == live
    assert len({c.version for c in found.commands if c.rule == "greet"}) == 2
