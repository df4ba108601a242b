"""A real worker's probes as Kubernetes asks them: joining, working, without Kafka, with state it cannot recover."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import topics
from app.broker import Broker
from app.kafka import producer
from app.probes import targets
from app.settings import Settings
from app.worker import Supervisor, worker_children
from tests.helpers.kafka import ROOT, free_port
from tests.helpers.settings import settings_for

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
PROBES = ("startedz", "livez", "readyz")


async def stands(settings: Settings) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Status codes of the only worker's probes, and what `/readyz` says; nothing where it does not answer yet."""
    found = list(targets(settings.run_dir / "targets").values())
    if not found:
        return (), {}
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            answers = [await http.get(f"http://{found[0][1]}/{probe}") for probe in PROBES]
    except httpx.HTTPError:
        return (), {}
    return tuple(a.status_code for a in answers), answers[2].json()


async def until(settings: Settings, wanted: tuple[int, ...], seconds: float = 60) -> dict[str, Any]:
    said: Any = None
    async with asyncio.timeout(seconds):
        while True:
            codes, said = await stands(settings)
            if codes == wanted:
                return dict(said)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    supervisor = Supervisor(worker_children(settings, {"deliver": 1}), lambda name, text: None)
    supervisor.start()
    try:
        yield
    finally:
        await supervisor.stop()


async def test_a_worker_that_lost_kafka_is_live_and_not_ready_until_kafka_answers_again(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", jars=ROOT / ".uptake" / "jars")
    settings = settings_for(await asyncio.to_thread(broker.start, free_port()), "", tmp_path / "data")
    pid = broker.status().pid
    assert pid is not None
    try:
        await topics.create(settings)
        async with working(settings):
            assert (await until(settings, (200, 200, 200)))["kafka"] == "answers"
            os.kill(pid, signal.SIGSTOP)
            try:
                said = await until(settings, (200, 200, 503))
                assert said["kafka"] == "silent" and said["worker"] == "deliver-0"
            finally:
                os.kill(pid, signal.SIGCONT)
            assert (await until(settings, (200, 200, 200), 120))["not_ready"] == {}
    finally:
        await asyncio.to_thread(broker.stop)


async def test_a_worker_that_cannot_recover_is_started_and_live_and_says_why_it_is_not_ready(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    settings = settings_for(kafka, prefix, tmp_path)
    await topics.create(settings)
    async with producer(settings) as made:
        # What a newer version might have left behind.
        await made.send_and_wait(settings.topic("state.deliver"), b"not msgpack", key=b"row|1", partition=0)
    async with working(settings):
        said = await until(settings, (200, 200, 503))
        async with asyncio.timeout(60):
            # Its other partitions work meanwhile.
            while (said["kafka"], set(said["not_ready"])) != ("answers", {"deliveries/0"}):
                said = (await stands(settings))[1]
        assert "Error: " in said["not_ready"]["deliveries/0"]
