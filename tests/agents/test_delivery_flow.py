"""commands → DISPATCH → DELIVER → the outside and receipts, on a real Kafka, with two workers, killed on the way."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app import definitions, topics
from app.kafka import producer, read
from app.settings import Settings
from schemas.commands import Command
from schemas.definitions import Connection, Pause
from schemas.delivery import Receipt, SinkRecord
from schemas.envelope import key
from tests.helpers.kafka import make_topic
from tests.helpers.roles import Process, start
from tests.helpers.shown import all_shown
from tests.helpers.web import Seen, serving
from tests.helpers.words import a_command

pytestmark = pytest.mark.kafka

PARTITIONS = 2
COMMANDS = 120
FAR = 4_000_000_000_000
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


class Worker:
    """The role `deliver` as a process of its own."""

    def __init__(self, settings: Settings, slot: int = 0) -> None:
        self._settings = settings
        self._log = settings.data_dir / "logs" / f"deliver-{slot}.log"
        self._slot = slot
        self._process: Process | None = None

    async def start(self) -> None:
        self._process = await start(self._settings, "deliver", self._slot, UPTAKE_SECRET_ACME__HOOK=SECRET)

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), 60)

    def log(self) -> str:
        return self._log.read_text()[-3_000:] if self._log.exists() else "no log"


def connection(name: str, integration: str, config: dict[str, Any], **changed: Any) -> Connection:
    values = {"tenant": "acme", "name": name, "integration": integration, "config": config, "enabled": True}
    return Connection(**{**values, **changed})


async def write(settings: Settings, commands: list[Command]) -> None:
    async with producer(settings) as made:
        for command in commands:
            await made.send(
                settings.topic(f"commands.{command.domain}"),
                command.model_dump_json().encode(),
                key=key(command.tenant, command.subject),
            )
        await made.flush()


async def values(settings: Settings, topic: str) -> list[bytes]:
    return [r.value async for r in read(settings, [topic]) if r.value is not None]


async def receipts(settings: Settings) -> list[Receipt]:
    return [Receipt.model_validate_json(v) for v in await values(settings, "receipts")]


async def until_final(settings: Settings, worker: Worker, count: int, within_s: float = 90) -> list[Receipt]:
    try:
        async with asyncio.timeout(within_s):
            while True:
                found = await receipts(settings)
                if sum(r.final for r in found) >= count:
                    return found
                await asyncio.sleep(0.3)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s; the worker says:\n{worker.log()}") from None


@pytest.fixture
async def settings(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    made = Settings(
        kafka=kafka,
        topic_prefix=prefix,
        data_dir=tmp_path,
        partitions=PARTITIONS,
        replication=1,
        allowed_hosts=["127.0.0.1"],
    )
    await topics.create(made)
    await make_topic(made, made.topic("acme.in"))
    return made


async def test_everything_arrives_and_ends_exactly_once_though_both_workers_are_killed(settings: Settings) -> None:
    tried: Counter[str] = Counter()

    def answer(seen: Seen) -> web.Response:
        id_ = seen.headers["webhook-id"]
        tried[id_] += 1
        # Every fifth destination is busy at first and asks for patience: its retry is parked when the worker dies.
        if tried[id_] == 1 and int(id_[:8], 16) % 5 == 0:
            return web.Response(status=503, headers={"Retry-After": "2"})
        return web.Response(text="ok")

    async with serving(answer) as server:
        hook = {"url": server.url("/hook"), "secret": {"env": "UPTAKE_SECRET_ACME__HOOK"}}
        await definitions.publish(
            settings,
            [
                connection("hook", "webhook", hook),
                connection(
                    "new", "slack", {"bot_token": {"env": "UPTAKE_SECRET_ACME__NONE"}, "channel": "C1"}, enabled=False
                ),
                connection("team", "kafka", {"topic": "acme.in"}),
                Pause(tenant="acme", name="rule:paused", scope="rule", of="paused"),
            ],
        )
        wanted = [a_command(cause=str(n), subject=f"feature:f{n % 7}", expires_at=FAR) for n in range(COMMANDS)]
        paused = a_command(cause="paused", rule="paused", expires_at=FAR)
        left = a_command(cause="left", tenant="globex", expires_at=FAR)
        await write(settings, [*wanted[: COMMANDS // 2], paused, left])
        worker, other = Worker(settings, 0), Worker(settings, 1)
        await worker.start()
        await other.start()
        await until_final(settings, worker, 20)
        await worker.end(signal.SIGKILL)
        await write(settings, [*wanted[COMMANDS // 2 :], wanted[0]])  # one of them comes again
        await until_final(settings, other, 60)
        await worker.start()
        await other.end(signal.SIGKILL)
        found = await until_final(settings, worker, 3 * COMMANDS + 3)
        assert await worker.end(signal.SIGTERM) == 0, worker.log()

    delivered = [r for r in found if r.status == "delivered"]
    ended = Counter((r.connection, r.command) for r in delivered)
    ids = {c.id for c in wanted}
    assert set(ended.values()) == {1}
    assert set(ended) == {(name, id_) for name in ("hook", "new", "team") for id_ in ids}
    assert Counter(r.reason for r in found if r.status == "suppressed") == {
        "paused": 1,
        "no_connection": 1,
        "duplicate": 1,
    }
    assert {r.delivery for r in delivered if r.connection == "hook"} == set(tried)
    assert any(r.status == "retrying" and r.reason == "http_503" for r in found)
    assert all(r.sandboxed == (r.connection == "new") for r in delivered)

    await all_shown(settings, "acme.in", "sink", "dead-letters")
    # Inside Kafka each is there once, killed or not; outside, only what was in the air may have gone out twice.
    team = [Command.model_validate_json(v).id for v in await values(settings, "acme.in")]
    assert Counter(team) == Counter(ids)
    sink = [SinkRecord.model_validate_json(v) for v in await values(settings, "sink")]
    assert Counter(r.command.id for r in sink) == Counter(ids)
    assert SECRET not in str(sink)
    assert max(tried.values()) <= 4  # one try, its retry, and what each kill left unsaid
    assert [v async for v in read(settings, ["dead-letters"])] == []


async def test_a_graceful_end_sends_nothing_twice(settings: Settings) -> None:
    tried: Counter[str] = Counter()

    async def answer(seen: Seen) -> web.Response:
        tried[seen.headers["webhook-id"]] += 1
        await asyncio.sleep(0.05)
        return web.Response(text="ok")

    async with serving(answer) as server:
        hook = {"url": server.url("/hook"), "secret": {"env": "UPTAKE_SECRET_ACME__HOOK"}}
        await definitions.publish(settings, [connection("hook", "webhook", hook, max_concurrency=4)])
        await write(settings, [a_command(cause=str(n), expires_at=FAR) for n in range(COMMANDS)])
        worker = Worker(settings)
        for stop_at in (40,):
            await worker.start()
            await until_final(settings, worker, stop_at)
            assert await worker.end(signal.SIGTERM) == 0, worker.log()
        await worker.start()
        await until_final(settings, worker, COMMANDS)
        await worker.end(signal.SIGTERM)
    assert len(tried) == COMMANDS
    assert set(tried.values()) == {1}
