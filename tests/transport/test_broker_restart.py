"""The broker goes away under a running worker and comes back: nothing is lost, nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.broker import Broker
from tests.helpers.kafka import ROOT, free_port
from tests.transport.kit import counting_topics, produce, until
from tests.transport.test_life import check_once, numbered, options, read, running

pytestmark = pytest.mark.kafka


async def test_broker_restart(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", jars=ROOT / ".uptake" / "jars")
    port = free_port()
    address = await asyncio.to_thread(broker.start, port)
    try:
        await counting_topics(address, "", 2)
        first = numbered(1_000)
        await produce(address, "in", first)
        async with running(options(address, "", tmp_path, request_timeout_ms=8_000)) as wires:
            await until(lambda: read(wires) == 1_000)
            await asyncio.to_thread(broker.stop)
            await asyncio.sleep(2)
            assert await asyncio.to_thread(broker.start, port) == address
            more = numbered(1_000, 1_000)
            await produce(address, "in", more)
            await until(lambda: read(wires) == 2_000)
            assert [status.state for status in wires.status()] == ["ready", "ready"]
        await check_once(address, "", first + more)
    finally:
        await asyncio.to_thread(broker.stop)
