"""Why and why not, of what real workers did: each kind of trigger, then with all of them stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app import definitions, topics
from app.definitions import load
from app.kafka import producer, read
from app.settings import Settings
from app.store import open_store, queries
from app.why import CannotTell, Sources, why
from schemas.definitions import DEFINITION, Definition
from schemas.why import Answer
from tests.helpers.roles import Process, start

pytestmark = pytest.mark.kafka

PARTITIONS = 2
ROLES = ("meter", "decide", "orchestrate", "project")
HOUR_S, DAY_S = 3_600, 86_400


def typed(kind: str) -> dict[str, Any]:
    return {"kind": "compare", "field": "type", "op": "==", "value": kind}


def a_rule(name: str, trigger: dict[str, Any], **more: Any) -> Definition:
    command = {"type": "sales.task.create", "title": "{{ subject }}", "text": "t"}
    return DEFINITION.validate_python(
        {
            "kind": "rule",
            "tenant": "acme",
            "name": name,
            "id": f"W.{name}",
            "trigger": trigger,
            "command": command,
            **more,
        }
    )


def known() -> list[Definition]:
    usage = {"topic": "events.usage"}
    big = {
        "kind": "all",
        "of": [typed("order.placed"), {"kind": "compare", "field": "total", "op": ">=", "value": 100}],
    }
    journey = {
        "kind": "workflow",
        "tenant": "acme",
        "name": "cart",
        "id": "W.cart",
        "trigger": {"kind": "event", **usage, "where": typed("cart.created")},
        "condition": "total >= 10",
        "events": {"bought": {"where": typed("cart.bought")}},
        "start": "listen",
        "nodes": [{"kind": "await", "id": "listen", "events": {"bought": None}, "timeout": "30d"}],
    }
    vips = {**journey, "name": "vips", "id": "W.vips", "condition": "'vip' in contact.tags"}
    return [
        DEFINITION.validate_python({**vips, "trigger": {"kind": "event", **usage, "where": typed("order.placed")}}),
        a_rule("big", {"kind": "event", **usage, "where": big}, when='plan == "pro"', cooldown_s=HOUR_S),
        a_rule("broken", {"kind": "event", **usage, "where": typed("page.broken")}) .model_copy(
            update={"command": a_rule("x", {"kind": "viral"}).command.model_copy(update={"title": "{{ nothing_here }}"})}
        ),
        a_rule("later", {"kind": "event", **usage, "where": typed("order.placed")}, effective_from=(1 << 52)),
        a_rule("thrice", {"kind": "count", **usage, "where": typed("login.failed"), "times": 3, "within_s": 600}),
        a_rule("silent", {"kind": "inactivity", **usage, "where": typed("order.placed"), "after_s": 30 * DAY_S}),
        a_rule("rare", {"kind": "stage", "stages": ["low"]}),
        a_rule("often", {"kind": "stage", "stages": ["market"]}),
        a_rule("crowded", {"kind": "threshold", "threshold": "crowd"}),
        DEFINITION.validate_python(
            {"kind": "threshold", "tenant": "acme", "name": "crowd", "metric": "users", "of": "export", "op": ">", "limit": 1000.0}
        ),
        DEFINITION.validate_python(journey),
    ]  # fmt: skip


@dataclass
class Events:
    """Events as they happen; no two at one millisecond."""

    settings: Settings
    now: int

    async def send(self, *events: dict[str, Any], topic: str = "events.usage") -> None:
        async with producer(self.settings) as made:
            for event in events:
                self.now = max(self.now + 1, time.time_ns() // 1_000_000)
                row = {"id": f"e{self.now}", "tenant": "acme", "product": "shop", "occurred_at": self.now, **event}
                about = row.get("user") or row.get("contact")
                await made.send(self.settings.topic(topic), json.dumps(row).encode(), key=f"acme|{about}".encode())
            await made.flush()


@pytest.fixture
async def world(kafka: str, prefix: str, tmp_path: Path) -> AsyncIterator[tuple[Settings, Events, list[Process]]]:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    await definitions.publish(settings, known())
    processes = [await start(settings, role) for role in ROLES]
    yield settings, Events(settings, 0), processes
    for process in processes:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


async def ask(settings: Settings, rule: str, subject: str, **more: Any) -> Answer:
    store = await open_store(settings.store_url)
    try:
        return await why(Sources(settings, store, await load(settings)), "acme", rule, subject, **more)
    finally:
        await store.close()


async def until(settings: Settings, rule: str, subject: str, *verdicts: str, **more: Any) -> Answer:
    async with asyncio.timeout(120):
        while (found := await ask(settings, rule, subject, **more)).verdict not in verdicts:
            await asyncio.sleep(0.5)
    return found


async def test_each_kind_of_trigger_says_why_and_why_not(
    world: tuple[Settings, Events, list[Process]],
) -> None:
    settings, events, processes = world
    users = [{"type": "feature.used", "feature": "export", "user": f"u{n}"} for n in range(30)]
    await events.send(
        *users,
        {"type": "order.placed", "user": "ann", "total": 120, "plan": "pro"},
        {"type": "order.placed", "user": "bob", "total": 120, "plan": "free"},
        {"type": "order.placed", "user": "cid", "total": 99, "plan": "pro"},
        {"type": "page.broken", "user": "ann"},
        {"type": "login.failed", "user": "ann"},
        {"type": "login.failed", "user": "ann"},
        {"type": "cart.created", "user": "ann", "total": 50},
        {"type": "cart.created", "user": "bob", "total": 5},
    )
    first = events.now

    fired = await until(settings, "big", "user:ann", "fired")
    assert fired.reason.startswith("it fired at ") and ", because order.placed for user:ann" in fired.reason
    assert [(c.text, c.value, c.held) for c in fired.trigger] == [
        ('type == "order.placed"', "order.placed", True), ("total >= 100", 120, True),
    ]  # fmt: skip
    assert [(c.text, c.value, c.held) for c in fired.condition] == [('plan == "pro"', "pro", True)]
    cooled = next(c for c in fired.guards if "cool-down" in c.text)
    assert cooled.held is False
    assert fired.seen is not None
    assert cooled.value == fired.seen.at
    assert "commanded" in {line.what for line in fired.activity}

    unmet = await until(settings, "W.big", "user:bob", "condition")
    assert unmet.reason == "`plan == \"pro\"` does not hold: the value is 'free'"
    near = await until(settings, "big", "user:cid", "not_met")
    assert "`total >= 100` does not hold: the value is 99" in near.reason
    assert [(c.value, c.held) for c in near.trigger] == [("order.placed", True), (99, False)]
    assert (await ask(settings, "big", "user:nobody")).verdict == "nothing_seen"
    assert (await until(settings, "later", "user:cid", "not_in_force")).seen is not None
    failed = await until(settings, "broken", "user:ann", "failed")
    assert "nothing_here" in failed.reason
    assert failed.activity[0].what == "failed"

    await events.send({"type": "order.placed", "user": "ann", "total": 300, "plan": "pro"})
    ordered = events.now
    held = await until(settings, "big", "user:ann", "suppressed")
    assert held.reason.endswith("held back: cooldown")
    assert {"commanded", "suppressed"} <= {line.what for line in held.activity}
    before = await ask(settings, "big", "user:ann", at=first)
    assert before.verdict == "fired"
    assert (await ask(settings, "big", "user:ann", at=first - DAY_S * 1000)).verdict == "nothing_seen"

    half = await until(settings, "thrice", "user:ann", "waiting")
    assert half.waits_for[0].startswith('1 more of: type == "login.failed"')
    assert half.watermark is not None and half.watermark > first - 60_000
    await events.send({"type": "login.failed", "user": "ann"})
    assert (await until(settings, "thrice", "user:ann", "fired")).seen is not None
    waits = await until(settings, "silent", "user:ann", "waiting")
    assert waits.due == ordered + 30 * DAY_S * 1000

    person = await until(settings, "vips", "user:ann", "condition")
    assert [(c.text, c.value) for c in person.condition] == [('contact.tags.contains("vip")', [])]

    low = await until(settings, "rare", "feature:export", "not_met", "nothing_seen", "not_judged")
    assert low.product == "shop"
    crowd = await until(settings, "crowded", "feature:export", "not_met")
    assert crowd.trigger[0].text == "users > 1000.0"
    assert isinstance(crowd.trigger[0].value, float)
    with pytest.raises(CannotTell, match="no rule or workflow 'nothing'"):
        await ask(settings, "nothing", "user:ann")
    with pytest.raises(CannotTell, match="kind:name"):
        await ask(settings, "big", "ann")
    assert (await ask(settings, "big", "feature:export", product="shop")).verdict == "not_met"

    going = await until(settings, "cart", "user:ann", "running")
    assert going.waits_for[0].startswith("listen: one of: bought until ")
    assert going.due is not None and going.due > first + 29 * DAY_S * 1000
    assert (await ask(settings, "cart", "user:bob")).reason == "`total >= 10` does not hold: the value is 5"
    await events.send({"type": "cart.created", "user": "ann", "total": 60})
    again = await until(settings, "cart", "user:ann", "refused")
    assert "`reentry` is `skip`" in again.reason
    assert again.waits_for == going.waits_for
    await events.send({"type": "cart.bought", "user": "ann"}, {"type": "cart.created", "user": "ann", "total": 70})
    await until(settings, "cart", "user:ann", "running")
    await events.send({"type": "cart.bought", "user": "ann"})
    over = await until(settings, "cart", "user:ann", "ended")
    assert "completed" in over.reason

    await events.send({"type": "cart.created", "user": "visitor", "total": 20})
    began = await until(settings, "cart", "user:visitor", "running")
    await events.send({"type": "contact.aliased", "contact": "dan", "former": "visitor"}, topic="events.contacts")
    followed = await until(settings, "cart", "user:dan", "running")
    assert (followed.reason, followed.waits_for) == (began.reason, began.waits_for), "the same run, under the new name"
    await events.send({"type": "cart.bought", "user": "dan"})
    assert "completed" in (await until(settings, "cart", "user:dan", "ended")).reason

    store = await open_store(settings.store_url)
    async with asyncio.timeout(60):
        while not any(
            r.what == "ended"
            for r in await queries.list_activity(store, tenant="acme", rules=["cart"], subject="user:ann")
        ):
            await asyncio.sleep(0.3)  # fmt: skip
    lines = await queries.list_activity(store, tenant="acme", rules=["cart"], subject="user:ann")
    assert {"began", "entered", "waits", "event", "ended"} <= {line.what for line in lines}
    assert all(line.run for line in lines)
    assert await queries.list_activity(store, tenant="other") == []
    commanded = [
        line for line in await queries.list_activity(store, tenant="acme", limit=1000) if line.what == "commanded"
    ]
    given = [json.loads(r.value) async for r in read(settings, ["commands.sales"]) if r.value is not None]
    assert {line.command for line in commanded} == {c["id"] for c in given}
    await store.close()

    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    alone = await ask(settings, "thrice", "user:ann")
    assert (alone.verdict, alone.seen is not None) == ("fired", True)
