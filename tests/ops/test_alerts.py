"""Alerts fire and clear in a running system: the rules as they are, their times divided by thirty.

One upstream transaction that hangs, a broker that stands still, a producer of nonsense and one with a wrong clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app import topics
from app.broker import Broker
from app.kafka import producer
from app.settings import Settings
from app.worker import Supervisor, worker_children
from core.meter.keys import partition_of
from tests.helpers.kafka import ROOT, free_port
from tests.helpers.prometheus import RULES, Prometheus, hurried, watching, workers_of
from tests.helpers.settings import settings_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(420)]
FASTER = 30
EVERY_S = 0.1
USERS = [f"u{n}" for n in range(40)]


class Producer:
    """Writes rows to both partitions without pause; what they look like can be changed meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.ahead_ms = 0
        self.bad = False
        self._n = 0

    async def run(self) -> None:
        async with producer(self._settings) as made:
            while True:
                for user in USERS:
                    await made.send(self._settings.topic("events.usage"), self._row(user), key=f"acme|{user}".encode())
                if self.bad:
                    await made.send(self._settings.topic("events.usage"), b"nonsense", key=b"acme|u0")
                await asyncio.sleep(EVERY_S)

    def _row(self, user: str) -> bytes:
        self._n += 1
        at = time.time_ns() // 1_000_000 + self.ahead_ms
        row = {"id": f"e{self._n}", "tenant": "acme", "product": "studio", "type": "feature.used"}
        return json.dumps({**row, "feature": "board", "user": user, "occurred_at": at}).encode()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[Producer]:
    """METER at work on a producer's rows."""
    supervisor = Supervisor(worker_children(settings, {"meter": 1}), lambda name, text: None)
    supervisor.start()
    made = Producer(settings)
    sending = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await supervisor.stop()


async def looked(prometheus: Prometheus, what: str, holds: Callable[[set[str]], bool]) -> None:
    """Until it holds of the names of the alerts that fire."""
    names: set[str] = set()
    try:
        async with asyncio.timeout(120):
            while not holds(names := set(await asyncio.to_thread(prometheus.firing))):
                await asyncio.sleep(0.5)
    except TimeoutError:
        pytest.fail(f"{what}; firing: {sorted(names)}")


async def test_alerts_fire_and_clear(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", jars=ROOT / ".uptake" / "jars")
    settings = settings_for(await asyncio.to_thread(broker.start, free_port()), "", tmp_path / "data")
    rules = tmp_path / "rules.yaml"
    rules.write_text(hurried(RULES.read_text(), FASTER))
    pid = broker.status().pid
    assert pid is not None
    try:
        await topics.create(settings)
        async with working(settings) as rows:
            with watching(tmp_path, rules, [workers_of(settings.data_dir)]) as prometheus:
                await scraped(prometheus)
                await quiet(prometheus)
                upstream = AIOKafkaProducer(bootstrap_servers=settings.kafka, transactional_id="upstream")
                await upstream.start()
                try:
                    await upstream.begin_transaction()
                    await upstream.send_and_wait("events.usage", rows._row("u0"), key=b"acme|u0")
                    fires = {"UptakeOpenTransaction", "UptakeWatermarkStuck", "UptakeLagGrowing"}
                    await looked(prometheus, "a transaction hangs", fires.issubset)
                    held = str(partition_of(b"acme|u0", settings.partitions))
                    for name in ("UptakeOpenTransaction", "UptakeWatermarkStuck"):
                        assert [a["partition"] for a in prometheus.firing()[name]] == [held]
                    os.kill(pid, signal.SIGSTOP)
                    try:
                        await looked(prometheus, "the broker stands still", {"UptakeCheckpointsStopped"}.issubset)
                    finally:
                        os.kill(pid, signal.SIGCONT)
                    await looked(prometheus, "it goes on", lambda names: "UptakeCheckpointsStopped" not in names)
                finally:
                    await upstream.stop()  # aborts what is open
                await quiet(prometheus)
                rows.bad, rows.ahead_ms = True, 60_000
                fires = {"UptakeDeadLetters", "UptakeProducerClockAhead"}
                await looked(prometheus, "rows are bad and ahead", fires.issubset)
                rows.bad, rows.ahead_ms = False, 0
                await quiet(prometheus)
    finally:
        await asyncio.to_thread(broker.stop)


async def scraped(prometheus: Prometheus) -> None:
    async with asyncio.timeout(90):
        while not prometheus.ask("query", query='rate(uptake_rows_total{outcome="accepted"}[10s]) > 0')["result"]:
            await asyncio.sleep(0.5)


async def quiet(prometheus: Prometheus) -> None:
    await looked(prometheus, "nothing fires", lambda names: not names)
