"""Events beside usage and performance, from raw rows through real Kafka to commands, METER being killed on the way."""

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
from app.people import in_segment
from app.settings import Settings
from schemas.definitions import CommandTemplate, Compare, OnAbsence, OnEvent, OnSegment, Rule, Segment
from schemas.triggers import Happening
from tests.acceptance.test_triggers import commands
from tests.helpers.roles import start

pytestmark = pytest.mark.kafka

PARTITIONS = 2
SECOND = 1_000
COMMERCE = "events.commerce"
MADE = Compare(field="type", op="==", value="cart.created")
BOUGHT = Compare(field="type", op="==", value="purchase.completed")


def rules() -> list[Rule | Segment]:
    def rule(name: str, trigger: Any, title: str) -> Rule:
        command = CommandTemplate(type="marketing.offer.send", title=title, text="t")
        return Rule(tenant="acme", name=name, id=name, trigger=trigger, command=command)

    return [
        rule("large", OnEvent(topic=COMMERCE, where=Compare(field="amount", op=">", value=100)), "{{ amount }}"),
        rule(
            "cart-left",
            OnAbsence(
                first=Happening(topic=COMMERCE, where=MADE), then=Happening(topic=COMMERCE, where=BOUGHT), within_s=20
            ),
            "{{ cart }}",
        ),
        Segment.model_validate({"tenant": "acme", "name": "big", "product": "shop", "where": "contact.spent > 110"}),
        rule("joined", OnSegment(segment="big"), "{{ contact.spent }} {{ segments }}"),
    ]


async def send(settings: Settings, rows: list[dict[str, Any]]) -> None:
    async with producer(settings) as made:
        for row in rows:
            word = {"tenant": "acme", "product": "shop", **row}
            key = f"acme|{row.get('user')}".encode()
            await made.send(settings.topic(COMMERCE), json.dumps(word).encode(), key=key)
        await made.flush()


async def mark(settings: Settings, kind: str, at: int) -> None:
    """In the hot topics and in the one that has rows: nobody waits for markers in the others."""
    word = {"type": f"uptake.replay.{kind}", "id": f"{kind}-{at}", "replay": "test", "at": at, "act": True}
    if kind == "begun":
        word["products"] = [["acme", "shop"]]
    async with producer(settings) as made:
        for topic in ("events.usage", "events.performance", COMMERCE):
            for partition in range(PARTITIONS):
                await made.send(settings.topic(topic), json.dumps(word).encode(), partition=partition)
        await made.flush()


def cart(user: str, at: int) -> dict[str, Any]:
    return {"id": f"cart-{user}", "type": "cart.created", "user": user, "cart": f"of-{user}", "occurred_at": at}


def purchase(user: str, at: int, amount: float) -> dict[str, Any]:
    return {"id": f"buy-{user}", "type": "purchase.completed", "user": user, "amount": amount, "occurred_at": at}


@pytest.mark.timeout(240)
async def test_each_fires_once_also_when_meter_is_killed(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    await definitions.publish(settings, rules())
    t0 = time.time_ns() // 1_000_000 - 3_600_000
    leaving, buying = [f"leaving-{n}" for n in range(6)], [f"buying-{n}" for n in range(6)]
    early = [cart(user, t0 + n) for n, user in enumerate([*leaving, *buying])]
    bad = [{"id": "bad", "type": "purchase.completed", "user": "nobody", "occurred_at": t0}]
    late = [purchase(user, t0 + 5 * SECOND + n, 90 + 10 * n) for n, user in enumerate(buying)]
    processes = [await start(settings, role) for role in ("meter", "decide")]
    try:
        await mark(settings, "begun", t0)
        await send(settings, [*early, *bad, *early])
        async with asyncio.timeout(60):
            while not [r async for r in read(settings, ["signals"])]:
                await asyncio.sleep(0.2)
        processes[0].send_signal(signal.SIGKILL)
        await processes[0].wait()
        await send(settings, [*late, *early])
        await mark(settings, "progressed", t0 + 60 * SECOND)
        processes[0] = await start(settings, "meter")
        processes[1].send_signal(signal.SIGKILL)
        await processes[1].wait()
        processes[1] = await start(settings, "decide")
        expected = {("cart-left", f"user:{user}") for user in leaving}
        expected |= {("joined", f"user:{user}") for n, user in enumerate(buying) if 90 + 10 * n > 110}
        expected |= {("large", f"user:{user}") for n, user in enumerate(buying) if 90 + 10 * n > 100}
        async with asyncio.timeout(120):
            while len(await commands(settings)) < len(expected):
                await asyncio.sleep(0.3)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [await asyncio.wait_for(p.wait(), 60) for p in processes] == [0, 0]
        found = await commands(settings)
        inside = await in_segment(settings, "acme", "shop", "big")
        dead = [dict(r.headers) async for r in read(settings, ["dead-letters"])]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
    assert sorted((c.rule, c.subject) for c in found) == sorted(expected)
    assert {c.title for c in found if c.rule == "large"} == {"110", "120", "130", "140"}
    assert all(
        c.issued_at == t0 + n + 20 * SECOND for n, u in enumerate(leaving) for c in found if c.subject == f"user:{u}"
    )
    assert inside == sorted(u for n, u in enumerate(buying) if 90 + 10 * n > 110)
    assert {c.title for c in found if c.rule == "joined"} == {f"{a}.0 ['big']" for a in (120, 130, 140)}
    assert {d["uptake-reason"] for d in dead} == {b"invalid"} and dead[0]["uptake-topic"] == COMMERCE.encode()
