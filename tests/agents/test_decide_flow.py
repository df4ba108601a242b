"""registers and signals → DECIDE → tables, detections, commands, on a real Kafka, with the worker killed on the way."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from app import definitions, topics
from app.kafka import producer, read
from app.settings import Settings
from schemas.commands import Command
from schemas.definitions import Compare, OnEvent, Rule
from schemas.registers import OTHERS, Clock, RegisterRecord, Signal, encode
from tests.core.decide.test_registers import CFG, UNTIL, catalogue, logs_of, run
from tests.core.decide.worlds import PERFORMANCE, T0, USAGE, Row, Source
from tests.helpers.roles import Process, start
from tests.helpers.shown import all_shown

pytestmark = pytest.mark.kafka

PARTITIONS = 2
SIGNALS = 40


def a_world(rng: random.Random) -> list[Source]:
    sources = []
    for topic in (USAGE, PERFORMANCE):
        for partition in range(PARTITIONS):
            at, rows = T0, []
            for _ in range(25):
                at += rng.choice([500, 3_000, 20_000, 90_000])
                feature = rng.choice(["f", "g", None])
                name = feature if topic == USAGE else "service:x"
                error = rng.random() < 0.3 and at > T0 + 600_000
                user = f"{partition}{rng.choice('abcd')}"
                rows.append(Row(at, user, name, rng.random() < 0.8, rng.choice([50_000, 300_000]), error))
            sources.append(Source(topic, partition, rows))
    return sources


async def send(settings: Settings, records: list[RegisterRecord]) -> None:
    async with producer(settings) as made:
        for record in records:
            topic = settings.topic("meter.registers")
            if isinstance(record, Clock):
                for partition in range(PARTITIONS):
                    await made.send(topic, encode(record), partition=partition)
            else:
                await made.send(topic, encode(record), key=f"{record.tenant}|{record.product}".encode())
        await made.flush()


async def send_signals(settings: Settings) -> None:
    async with producer(settings) as made:
        for n in range(SIGNALS):
            word = Signal(
                tenant="acme",
                product="shop",
                subject=f"user:u{n % 8}",
                kind="event",
                cause=f"acme::{n}",
                rules=["slow"],
                at=T0 + n * 10_000,
                data={"latency_ms": 2_000.0},
            )
            await made.send(settings.topic("signals"), msgspec.json.encode(word), key=f"acme|{word.subject}".encode())
        await made.flush()


async def words(settings: Settings, topic: str) -> list[dict[str, object]]:
    return [json.loads(r.value) async for r in read(settings, [topic]) if r.value is not None]


async def decide(settings: Settings) -> Process:
    return await start(settings, "decide")


async def until(settings: Settings, topic: str, count: int, within_s: float = 120) -> None:
    async with asyncio.timeout(within_s):
        while len(await words(settings, topic)) < count:
            await asyncio.sleep(0.3)


async def test_killed_and_yet_each_once(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    known = catalogue(CFG)
    slow = {
        "name": "slow",
        "id": "slow",
        "trigger": OnEvent(topic="events.performance", where=Compare(field="latency_ms", op=">", value=1000)),
        "cooldown_s": 60,
        "command": {"type": "success.user.help", "title": "{{ latency_ms }}", "text": "t"},
    }
    known.put(Rule.model_validate(slow))
    await definitions.publish(settings, list(known.heads()))
    rng = random.Random(5)
    logs = logs_of(a_world(rng), CFG, rng)
    expected = run(logs, CFG, 1)
    detections, commands = expected.ids("detections"), expected.ids("commands.product")
    assert len(detections) > 5 and commands and expected.ids("receipts")

    half = [record for log in logs for record in log[: len(log) // 2]]
    rest = [record for log in logs for record in log[len(log) // 2 :]]
    silent = [Clock(source=OTHERS, partition=p, at=UNTIL, replaying=False) for p in range(PARTITIONS)]
    await send(settings, [*silent, *half])
    worker = await decide(settings)
    await until(settings, "tables.adoption", 1)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    await send(settings, rest)
    await send_signals(settings)
    worker = await decide(settings)
    await until(settings, "detections", len(detections))
    await until(settings, "commands.product", len(commands))
    buckets = {(f"user:u{n % 8}", (T0 + n * 10_000) // 60_000) for n in range(SIGNALS)}
    await until(settings, "commands.success", len(buckets))
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.wait(), 60) == 0
    await all_shown(settings)

    assert sorted(str(w["id"]) for w in await words(settings, "detections")) == detections
    assert sorted(str(w["id"]) for w in await words(settings, "commands.product")) == commands
    helped = [Command.model_validate(w) for w in await words(settings, "commands.success")]
    assert Counter((c.subject, int(c.cause) // 60_000) for c in helped) == Counter(buckets)
    newest: dict[bytes, dict[str, object]] = {}
    async for record in read(settings, ["tables.adoption", "tables.health"]):
        newest[record.key] = {k: v for k, v in json.loads(record.value).items() if k != "version"}
    assert newest == expected.rows()
