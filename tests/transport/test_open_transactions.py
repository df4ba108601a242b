"""A producer that hangs in a transaction: the partition and the offset are named, and reading goes on when it ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.transport.kit import counting_topics, produce, until
from tests.transport.test_life import Figures, options, read, running
from transport import runner

pytestmark = pytest.mark.kafka


async def test_it_is_named_and_left_alone(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "HANGING_S", 1.0)
    await counting_topics(kafka, prefix, 2)
    await produce(kafka, f"{prefix}in", [(0, b"a"), (1, b"a")])
    figures = Figures()

    def held(partition: int) -> list[float]:
        found: Any = figures.observed.get(("uptake_open_transaction_seconds", "counter", "in", str(partition)), [])
        return [float(seconds) for seconds in found]

    upstream = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{prefix}upstream")
    await upstream.start()
    try:
        async with running(options(kafka, prefix, tmp_path), metrics=figures) as wires:
            await until(lambda: read(wires) == 2)
            with caplog.at_level(logging.WARNING):
                await upstream.begin_transaction()
                await upstream.send_and_wait(f"{prefix}in", b"b", partition=0)
                await produce(kafka, f"{prefix}in", [(0, b"c"), (1, b"c")])
                await until(lambda: "has been open" in caplog.text)
            assert f"{prefix}in/0" in caplog.text and "offset 1 on" in caplog.text
            assert read(wires) == 3 and max(held(0)) >= 1.0 and not any(held(1))
            await upstream.commit_transaction()
            await until(lambda: read(wires) >= 6)  # three rows each way and the mark of the commit
            await until(lambda: held(0)[-1] == 0.0)
    finally:
        await upstream.stop()
