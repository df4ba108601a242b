"""A live METER and ORCHESTRATE on a real Kafka: what flows of workflows are tested with."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from app import topics
from app.kafka import producer, read
from app.settings import Role, Settings
from tests.helpers.roles import Process
from tests.helpers.roles import start as fork

PARTITIONS = 2
TYPED = {"kind": "compare", "field": "type", "op": "=="}


async def prepared(kafka: str, prefix: str, data_dir: Path) -> Settings:
    """Settings of a deployment whose topics are there."""
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=data_dir, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    return settings


def an_act(name: str, to: str | None = None) -> dict[str, object]:
    command = {
        "type": "sales.task.create",
        "title": "{{ cart }}",
        "text": "t",
        "payload": {"seen": "{{ seen.bought }}"},
    }
    return {"kind": "act", "id": name, "command": command, "next": to}


async def send(settings: Settings, kind: str, users: Iterable[int], at: int | None = None) -> None:
    """`at`: event time of all of them; now, where it is absent."""
    async with producer(settings) as made:
        for n in users:
            event = {
                "id": f"{kind}-{n}",
                "tenant": "acme",
                "product": "shop",
                "type": kind,
                "user": f"u{n}",
                "cart": f"c{n}",
            }
            event["occurred_at"] = at or time.time_ns() // 1_000_000
            await made.send(settings.topic("events.usage"), json.dumps(event).encode(), key=f"acme|u{n}".encode())
        await made.flush()


async def start(settings: Settings, role: Role) -> Process:
    announced = settings.run_dir / "targets" / f"{role}-0.json"
    announced.unlink(missing_ok=True)
    process = await fork(settings, role)
    async with asyncio.timeout(60):
        while not announced.exists():  # from then on it takes SIGTERM for a wish to stop
            await asyncio.sleep(0.05)
    return process


async def rows(settings: Settings, topic: str) -> list[bytes]:
    return [r.value async for r in read(settings, [topic]) if r.value is not None]


async def until(settings: Settings, topic: str, count: int, within_s: float = 90) -> None:
    async with asyncio.timeout(within_s):
        while len(await rows(settings, topic)) < count:
            await asyncio.sleep(0.2)


async def kill(*processes: Process) -> None:
    """`kill -9`, one after the other."""
    for process in processes:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def stop(*processes: Process) -> None:
    """As an operator stops them: each ends well."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
