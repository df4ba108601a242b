"""Signals → DECIDE → outcomes, on a real Kafka, with the worker killed on the way: arms of all partitions, a harm pauses the rule."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import msgspec
import pytest

from app import definitions, topics
from app.kafka import producer, read
from app.settings import Settings
from core.outcomes.arms import is_held
from schemas.definitions import CommandTemplate, Rule
from schemas.outcomes import OutcomeRow
from schemas.registers import Signal
from tests.helpers.roles import Process, start
from tests.helpers.shown import all_shown

pytestmark = pytest.mark.kafka
PARTITIONS, USERS, HOUR = 2, 200, 3_600_000
BEGIN = time.time_ns() // 1_000_000 // HOUR * HOUR - 6 * HOUR
"""This morning's data: a verdict on old ones pauses nobody."""
RULE = Rule.model_validate(
    {
        "name": "welcome",
        "id": "welcome",
        "trigger": {"kind": "event", "topic": "events.usage", "where": 'type == "user.signed_up"'},
        "holdout": 0.4,
        "ceiling_per_hour": 10_000,
        "command": CommandTemplate(type="marketing.email.send", title="t", text="t"),
        "outcome": {"metric": {"kind": "conversion", "where": 'type == "purchase.completed"'}, "within_s": 600},
    }
)


def held(user: int) -> bool:
    return is_held("acme", "welcome", f"user:u{user}", RULE.holdout)


def a_signal(user: int, type_: str, at: int) -> Signal:
    return Signal(
        tenant="acme",
        product="shop",
        subject=f"user:u{user}",
        kind="event",
        cause=f"{type_}-{user}",
        rules=["welcome"],
        at=at,
        data={"type": type_},
    )


async def send(settings: Settings, signals: list[Signal], clock: int) -> None:
    """Signals by their keys, then the product's event time to every partition."""
    topic = settings.topic("signals")
    async with producer(settings) as made:
        for one in signals:
            await made.send(topic, msgspec.json.encode(one), key=f"acme|{one.subject}".encode())
        await made.flush()
        told = Signal(tenant="acme", product="shop", subject="", kind="clock", cause="", rules=[], at=clock, data={})
        for partition in range(PARTITIONS):
            await made.send(topic, msgspec.json.encode(told), partition=partition)
        await made.flush()


async def decide(settings: Settings) -> Process:
    return await start(settings, "decide")


async def rows(settings: Settings) -> list[OutcomeRow]:
    return [OutcomeRow.model_validate_json(r.value) async for r in read(settings, ["outcomes"]) if r.value is not None]


async def until(settings: Settings, subjects: int) -> OutcomeRow:
    async with asyncio.timeout(120):
        while True:
            found = await rows(settings)
            last = max(found, key=lambda r: r.version, default=None)
            if (
                last is not None
                and last.treated
                and last.held
                and last.treated.subjects + last.held.subjects >= subjects
            ):
                return last
            await asyncio.sleep(0.3)


async def reasons(settings: Settings) -> list[str]:
    return [json.loads(r.value)["reason"] async for r in read(settings, ["receipts"]) if r.value is not None]


async def test_a_harm_is_measured_over_partitions_and_kills_and_pauses_the_rule(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    await definitions.publish(settings, [RULE])
    first, second = range(USERS // 2), range(USERS // 2, USERS)
    worker = await decide(settings)
    begun = [a_signal(u, "user.signed_up", BEGIN) for u in first]
    bought = [a_signal(u, "purchase.completed", BEGIN + 60_000) for u in first if held(u)]
    await send(settings, [*begun, *bought], BEGIN + 2 * HOUR)
    last = await until(settings, USERS // 2)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    await send(settings, [a_signal(u, "user.signed_up", BEGIN + 3 * HOUR) for u in second], BEGIN + 5 * HOUR)
    worker = await decide(settings)
    async with asyncio.timeout(120):
        while (await reasons(settings)).count("paused") < len(second):
            await asyncio.sleep(0.3)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.wait(), 60) == 0
    await all_shown(settings)

    left_alone = sum(map(held, first))
    assert last.treated is not None and last.held is not None and last.verdict == "harmful"
    assert (last.treated.subjects, last.treated.converted) == (len(first) - left_alone, 0)
    assert (last.held.subjects, last.held.converted) == (left_alone, left_alone)
    suppressed = await reasons(settings)
    assert (suppressed.count("hold_out"), suppressed.count("paused")) == (left_alone, len(second))
    commands = [json.loads(r.value) async for r in read(settings, ["commands.marketing"]) if r.value is not None]
    assert len({c["id"] for c in commands}) == len(commands) == len(first) - left_alone
    found = [json.loads(r.value) async for r in read(settings, ["detections"]) if r.value is not None]
    assert [(d["kind"], d["verdict"], d["pauses"]) for d in found] == [("verdict_reached", "harmful", True)]
    assert (await definitions.load(settings)).paused("acme", rule="welcome")
