"""Kafka away: the gateway says so in time, or keeps events on its disk, in order, once, bounded, through restarts."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.api.spool import Outgoing, Spool, SpoolFull, waiting
from app.broker import Broker
from app.telemetry import Telemetry
from tests.helpers.gateway import Served, serve
from tests.helpers.kafka import ROOT, free_port
from tests.helpers.words import NOON


def an_event(n: int, size: int = 10) -> Outgoing:
    return Outgoing("events.usage", b"acme|u", b"%d" % n + b"x" * size, [("traceparent", b"t")], f"usage|acme||e{n}")


async def written(spool: Spool, failures: int = 0) -> list[Outgoing]:
    """What the spool writes out until it is empty."""
    got: list[Outgoing] = []
    left = [failures]

    async def write(records: Sequence[Outgoing]) -> None:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("away")
        got.extend(records)

    draining = asyncio.create_task(spool.drain(write))
    async with asyncio.timeout(60):
        while spool.events:
            await asyncio.sleep(0)
    draining.cancel()
    with suppress(asyncio.CancelledError):
        await draining
    return got


async def test_events_come_out_in_order_once_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, 1 << 20, Telemetry())
    await spool.put([an_event(n) for n in range(1_200)])
    await spool.put([an_event(5), an_event(1_200)])  # the caller was not sure and sent it again
    assert spool.events == 1_201 == waiting(path)
    spool.close()
    again = Spool(path, 1 << 20, Telemetry())
    assert again.events == 1_201
    got = await written(again, failures=1)
    assert got == [an_event(n) for n in range(1_201)] and got[0].headers == [("traceparent", b"t")]
    assert (again.events, again.bytes, waiting(path)) == (0, 0, 0)
    again.close()


async def test_a_full_spool_keeps_nothing_of_what_does_not_fit(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", 10_000, Telemetry())
    await spool.put([an_event(1, 4_000)])
    assert not spool.full
    with pytest.raises(SpoolFull, match="1 events wait"):
        await spool.put([an_event(2), an_event(3, 8_000)])
    assert spool.events == 1
    await spool.put([an_event(4, 5_400)])
    assert spool.full and await written(spool) == [an_event(1, 4_000), an_event(4, 5_400)]
    spool.close()


async def test_what_was_not_acknowledged_is_sent_again(tmp_path: Path) -> None:
    """Killed between the acknowledgement and the deletion: the same rows again, none lost."""
    path = tmp_path / "spool.db"
    spool = Spool(path, 1 << 20, Telemetry())
    await spool.put([an_event(n) for n in range(3)])
    sent: list[Outgoing] = []
    reached = asyncio.Event()

    async def write(records: Sequence[Outgoing]) -> None:
        sent.extend(records)
        reached.set()
        await asyncio.Event().wait()

    draining = asyncio.create_task(spool.drain(write))
    await reached.wait()
    draining.cancel()
    spool.close()
    again = Spool(path, 1 << 20, Telemetry())
    assert await written(again) == sent
    again.close()


@examples(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12), max_size=15))
def test_any_requests_leave_in_the_order_of_first_arrival(
    tmp_path_factory: pytest.TempPathFactory, puts: list[list[int]]
) -> None:
    async def run() -> None:
        spool = Spool(tmp_path_factory.mktemp("spool") / "spool.db", 3_000, Telemetry())
        there: dict[int, None] = {}
        for request in puts:
            wanted = dict.fromkeys([*there, *request])
            try:
                await spool.put([an_event(n, 100) for n in request])
                there = wanted
            except SpoolFull:
                assert len(wanted) > 8
            assert spool.bytes <= 3_000
        assert await written(spool) == [an_event(n, 100) for n in there]
        spool.close()

    asyncio.run(run())


# --- a real gateway, a real broker that stops -----------------------------------------------------------------------------


@contextmanager
def own_broker(path: Path) -> Iterator[tuple[Broker, int, str]]:
    """A broker that a test may stop and start again at its port."""
    broker, port = Broker(path / "broker", jars=ROOT / ".uptake" / "jars"), free_port()
    address = broker.start(port)
    try:
        yield broker, port, address
    finally:
        broker.stop()


def send(served: Served, first: int, count: int) -> httpx.Response:
    events = [
        {"id": f"e{n}", "type": "feature.used", "user": "u", "feature": "f", "occurred_at": NOON}
        for n in range(first, first + count)
    ]
    with served.client("operations") as client:
        return client.post("/api/v1/products/shop/events", json=events)


def ids(served: Served) -> list[str]:
    return [httpx.Response(200, content=r.value).json()["id"] for r in served.written("events.usage")]


@pytest.mark.kafka
def test_kafka_away_without_a_spool_is_said_in_time(tmp_path: Path) -> None:
    with (
        own_broker(tmp_path) as (broker, port, address),
        serve(address, "away.", tmp_path, tenants=("acme", "all"), partitions=1, api_kafka_timeout_s=1) as served,
    ):
        assert send(served, 0, 3).status_code == 202
        broker.stop()
        refused = send(served, 3, 3)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert refused.json()["type"] == "urn:uptake:problem:not-acknowledged"
        with served.client("operations") as client:
            assert client.get("/readyz").status_code == 503
        broker.start(port)
        deadline = time.monotonic() + 60
        while (again := send(served, 3, 3)).status_code != 202:
            assert time.monotonic() < deadline, again.text
        assert set(ids(served)) == {f"e{n}" for n in range(6)}


@pytest.mark.kafka
def test_kafka_away_with_a_spool(tmp_path: Path) -> None:
    changed = {"partitions": 1, "api_kafka_timeout_s": 1, "api_spool_mb": 1}
    with own_broker(tmp_path) as (broker, port, address):
        with serve(address, "spool.", tmp_path, tenants=("acme", "all"), **changed) as served:  # type: ignore[arg-type]
            assert send(served, 0, 2).json() == {"accepted": 2, "rejected": [], "spooled": False}
            broker.stop()
            assert send(served, 2, 2).json()["spooled"] is True
            assert send(served, 3, 2).json()["spooled"] is True
            with served.client("operations") as client:
                ready = client.get("/readyz")
                assert ready.status_code == 200 and ready.json()["spool"].startswith("3 events wait")
                assert "uptake_spool_events 3.0" in client.get("/metrics").text
            assert waiting(served.settings.spool_path) == 3
            full = None
            for n in range(5):
                full = send(served, 10_000 * (n + 1), 2_000)
                if full.status_code == 503:
                    break
            assert full is not None and full.json()["type"] == "urn:uptake:problem:spool-full"
            assert full.headers["retry-after"] == "10"
        kept = waiting(served.settings.spool_path)
        assert kept is not None and kept >= 3
        broker.start(port)
        with serve(address, "spool.", tmp_path, tenants=("acme", "all"), **changed) as served:  # type: ignore[arg-type]
            deadline = time.monotonic() + 60
            while waiting(served.settings.spool_path):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert send(served, 5, 1).json()["spooled"] is False
            found = list(dict.fromkeys(ids(served)))
            assert found[:5] == ["e0", "e1", "e2", "e3", "e4"] and found[-1] == "e5"
            assert len(found) == 2 + kept + 1


def test_a_file_that_is_none_is_nobodys_spool(tmp_path: Path) -> None:
    assert waiting(tmp_path / "none.db") is None
    (tmp_path / "odd.db").write_text("not a database, but long enough to be read as one" * 30)
    assert waiting(tmp_path / "odd.db") is None
    with pytest.raises(sqlite3.Error):
        Spool(tmp_path / "odd.db", 10, Telemetry())
