"""A live system on real Kafka, its archive, and backtests that order the same, id for id: a month of people in a few minutes.

The live run has what history has: deliveries that arrive, are refused or find nobody who wants them, and runs that go on by what
came of them; people whose stage changes; rules and a workflow published in other words midway, and a pause. The second backtest
begins midway.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app import definitions, topics
from app.backtest import Wanted, backtest
from app.kafka import producer, read
from app.receiver import Receiver
from app.settings import Settings
from core.archive import COMMANDS, EVENTS
from core.rulebook import load_rulebook
from schemas.definitions import DEFINITION, Definition, Pause
from tests.app.backtest.words import DAY, days, words
from tests.helpers.roles import start

pytestmark = pytest.mark.kafka

PARTITIONS = 2
DAYS, MIDDLE = 30, 15
"""All, and when definitions change and the second backtest begins."""
TRIGGERS = Path(__file__).resolve().parents[2] / "rulebook" / "examples" / "triggers.yaml"
ROLES = ("meter", "decide", "deliver", "orchestrate", "archive")
RIGHT, WRONG = "UPTAKE_SECRET_BACKTEST", "UPTAKE_SECRET_OTHER"


def connections(url: str) -> list[Definition]:
    """Who wants `success` gets it, `marketing` is signed wrongly and refused, `engineering` is wanted by nobody."""
    return [
        DEFINITION.validate_python(
            {
                "kind": "connection",
                "name": name,
                "integration": "webhook",
                "config": {"url": url, "secret": {"env": secret}},
                "domains": [domain],
                "enabled": True,
            }
        )
        for name, secret, domain in (("right", RIGHT, "success"), ("wrong", WRONG, "marketing"))
    ]


async def send(settings: Settings, some: list[tuple[str, dict[str, Any]]]) -> None:
    async with producer(settings) as made:
        for topic, event in some:
            about = event.get("user") or event["contact"]
            word = {"id": f"{about}-{event['occurred_at']}", "tenant": "acme", "product": "shop", **event}
            await made.send(settings.topic(topic), json.dumps(word).encode(), key=f"acme|{about}".encode())
        await made.flush()


async def mark(settings: Settings, kind: str, at: int) -> None:
    marker = {"type": f"uptake.replay.{kind}", "id": f"{kind}-{at}", "replay": "test", "at": at, "act": True}
    if kind == "begun":
        marker["products"] = [["acme", "shop"]]
    async with producer(settings) as made:
        for topic in EVENTS:
            for partition in range(PARTITIONS):
                await made.send(settings.topic(topic), json.dumps(marker).encode(), partition=partition)
        await made.flush()


async def sent(settings: Settings) -> dict[str, dict[str, Any]]:
    """Every command that was sent, by id."""
    found: dict[str, dict[str, Any]] = {}
    async for record in read(settings, COMMANDS):
        body = json.loads(record.value or b"{}")
        assert body["id"] not in found
        found[body["id"]] = body
    return found


async def until_still(settings: Settings, more_than: int) -> dict[str, dict[str, Any]]:
    """Until commands have come and no more do."""
    found: dict[str, dict[str, Any]] = {}
    still = 0
    async with asyncio.timeout(100):
        while still < 6 or len(found) <= more_than:
            await asyncio.sleep(0.5)
            now = await sent(settings)
            still = still + 1 if len(now) == len(found) else 0
            found = now
    return found


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_past_gives_the_commands_that_were_sent(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(
        kafka=kafka,
        topic_prefix=prefix,
        data_dir=tmp_path,
        partitions=PARTITIONS,
        replication=1,
        allowed_hosts=["127.0.0.1"],
    )
    await topics.create(settings)
    right, wrong = ("whsec_" + b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    t0 = (time.time_ns() // 1_000_000 // DAY - DAYS - 2) * DAY
    rules = load_rulebook({"triggers.yaml": TRIGGERS.read_text()})
    pause = Pause(name="rule:greet", scope="rule", of="greet")
    with Receiver(right) as receiver:
        await definitions.publish(settings, [*rules, *words(0, replayed=True), *connections(receiver.url)])
        processes = [await start(settings, role, **{RIGHT: right, WRONG: wrong}) for role in ROLES]
        try:
            await mark(settings, "begun", t0)
            before = 0
            for first, last in ((0, 5), (5, MIDDLE), (MIDDLE, 20), (20, 23), (23, DAYS)):
                if first == MIDDLE:
                    await definitions.publish(settings, words(1, replayed=True))
                    await asyncio.sleep(2)
                if first == 20:
                    await definitions.publish(settings, [pause])
                    await asyncio.sleep(2)
                if first == 23:
                    await definitions.retire(settings, [pause])
                    await asyncio.sleep(2)
                await send(settings, days(t0, first, last))
                await mark(settings, "progressed", t0 + last * DAY)
                live = await until_still(settings, before + 20)
                before = len(live)
            await mark(settings, "progressed", t0 + (DAYS + 1) * DAY)
            live = await until_still(settings, before - 1)
            for process in processes:
                process.send_signal(signal.SIGTERM)
            assert [await asyncio.wait_for(p.wait(), 60) for p in processes] == [0] * len(ROLES)
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
    assert receiver.received and receiver.refused
    steps = {c["step"] for c in live.values() if c["rule"] == "asking"}
    assert steps == {"first", "ask", "thank", "offer", "repair", "call", "visit"}  # each went by its receipts
    versions = Counter((c["rule"], c["rule_version"]) for c in live.values())
    assert all(versions[rule, n] for rule in ("greet", "customers", "asking") for n in (1, 2))
    assert {"example.hourly", "example.cart", "example.quiet"} <= {rule for rule, _ in versions}
    for begin in (None, t0 + MIDDLE * DAY):
        wanted = Wanted(settings.archive_place, PARTITIONS, begin=begin, processes=1, rows_a_cut=200)
        found = await asyncio.to_thread(backtest, wanted)
        then = {i: c for i, c in live.items() if begin is None or c["issued_at"] >= begin}
        assert (found.missing, found.extra) == ([], [])
        assert {c.id: c.rule for c in found.commands} == {i: c["rule"] for i, c in then.items()}
