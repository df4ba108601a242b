"""The project role on a real Kafka: two processes, one killed, the read model equals the topics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app import topics
from app.definitions import publish
from app.forget import forget
from app.kafka import producer
from app.probes import targets
from app.settings import Settings
from app.store import open_store, queries
from core.letters import Filter
from schemas.definitions import Product
from schemas.envelope import Word, key
from tests.helpers import postgres
from tests.helpers.kafka import run_anywhere
from tests.helpers.words import NOON, a_command, a_detection, a_health_row, a_receipt, a_sink_record, an_adoption_row

pytestmark = pytest.mark.kafka
MIN = 60_000
Written = tuple[str, bytes, Word | bytes]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None: SQLite in the data directory."""
    if request.param == "sqlite":
        yield None
        return
    with postgres.server() as url:
        yield postgres.fresh_database(url)


def write(settings: Settings, records: list[Written]) -> None:
    async def put() -> None:
        async with producer(settings) as made:
            waiting = [
                await made.send(
                    settings.topic(topic), word if isinstance(word, bytes) else word.model_dump_json().encode(), key=of
                )
                for topic, of, word in records
            ]
            await asyncio.gather(*waiting)

    run_anywhere(put())


def start(settings: Settings, slot: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **settings.environment(), "UPTAKE_METRICS_PORT": "0"}
    log = (settings.data_dir / f"project-{slot}.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "app.process", "project", str(slot)],
        env=environment,
        stdout=log,
        stderr=log,
        cwd=Path(__file__).parents[2],
    )


def rows_of(part: int) -> list[Written]:
    """A quarter of the records: later parts hold later versions, and one record that is none."""
    records: list[Written] = []
    for i in range(40):
        end = NOON + i * MIN
        row = an_adoption_row("1h", end, feature=f"f{i % 5}", version=part, users=part)
        records.append(("tables.adoption", key("acme", f"shop|{row.feature}|1h|{end}"), row))
        records.append(
            ("tables.health", key("acme", f"shop|{end}"), a_health_row(end, version=part, score=float(part)))
        )
        command = a_command(cause=f"{part}-{i}")
        detection = a_detection(end, stage="low" if part % 2 else "growth", users=part)
        records += [
            ("detections", key("acme", detection.subject), detection),
            ("commands.product", key("acme", command.subject), command),
            ("receipts", key("acme", command.subject), a_receipt(command)),
            ("sink", key("acme", "hook"), a_sink_record(command)),
        ]
    return [*records, ("detections", b"acme|broken", b'{"kind":"nonsense"}')]


async def counted(settings: Settings) -> dict[str, int]:
    store = await open_store(settings.store_url)
    try:
        return await queries.counts(store)
    finally:
        await store.close()


def wait_until(settings: Settings, wanted: dict[str, int], within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    found: dict[str, int] = {}
    while time.monotonic() < deadline:
        found = run_anywhere(counted(settings))
        if all(found.get(name, 0) >= n for name, n in wanted.items()):
            return
        time.sleep(0.3)
    logs = "".join(p.read_text()[-3000:] for p in settings.data_dir.glob("*.log"))
    raise AssertionError(f"{found} instead of {wanted}\n{logs}")


def wait_until_ready(settings: Settings, processes: int, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    ready = 0
    while ready < processes:
        assert time.monotonic() < deadline, f"{ready} of {processes} are ready"
        time.sleep(0.3)
        ready = 0
        for _, address in targets(settings.run_dir / "targets").values():
            with contextlib.suppress(httpx.TransportError):
                ready += httpx.get(f"http://{address}/readyz").status_code == 200


def wait_until_defined(settings: Settings, within_s: float = 120) -> None:
    """Definitions are mirrored by a timer, beside the rows."""

    async def slo() -> float:
        store = await open_store(settings.store_url)
        try:
            return (await queries.product_definition(store, "acme", "shop")).slo
        finally:
            await store.close()

    deadline = time.monotonic() + within_s
    while run_anywhere(slo()) != 0.95:
        assert time.monotonic() < deadline, "the product's definition was not mirrored"
        time.sleep(0.3)


def readyz(settings: Settings) -> dict[str, object]:
    """What the one worker says; empty while it says nothing."""
    for _, address in targets(settings.run_dir / "targets").values():
        with contextlib.suppress(httpx.TransportError):
            return dict(httpx.get(f"http://{address}/readyz").json())
    return {}


def until_readyz(settings: Settings, holds: Callable[[dict[str, object]], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not holds(told := readyz(settings)):
        assert time.monotonic() < deadline, told
        time.sleep(0.2)


def test_a_read_model_that_is_gone_is_waited_for(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Gone at the start, and broken in the middle: shown on /readyz, and caught up with afterwards, nothing lost or twice."""
    place = tmp_path / "database"
    place.write_text("in the way")
    url = f"sqlite:///{place}/read-model.db"
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2, database_url=url)  # type: ignore[arg-type]
    run_anywhere(topics.create(settings))
    write(settings, rows_of(0))
    process = start(settings, 0)
    try:
        until_readyz(settings, lambda told: not told.get("ok", True) and "Unavailable" in str(told.get("not_ready")))
        place.unlink()
        wait_until(settings, {"commands": 40})
        until_readyz(settings, lambda told: told["ok"] is True)
        with sqlite3.connect(place / "read-model.db") as broken:
            broken.execute("ALTER TABLE commands RENAME TO elsewhere")
        write(settings, rows_of(1))
        until_readyz(settings, lambda told: not told["ok"] and "unavailable" in str(told.get("degraded")))
        assert process.poll() is None
        with sqlite3.connect(place / "read-model.db") as repaired:
            repaired.execute("ALTER TABLE elsewhere RENAME TO commands")
        wait_until(settings, {"commands": 80, "detections": 80, "sink": 80})
        until_readyz(settings, lambda told: told["ok"] is True and told["degraded"] == {} and told["lag"] == 0)
        assert run_anywhere(counted(settings))["commands"] == 80
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0


def test_who_was_forgotten_while_rows_waited_is_not_in_them(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=1)  # type: ignore[arg-type]
    run_anywhere(topics.create(settings))

    def commands(part: int) -> None:
        made = [a_command(cause=f"{who}-{part}", subject=f"user:{who}") for who in ("eve", "bob")]
        write(settings, [("commands.product", key("acme", c.subject), c) for c in made])

    commands(0)
    process = start(settings, 0)
    try:
        wait_until(settings, {"commands": 2})
        place = tmp_path / "read-model.db"
        with sqlite3.connect(place) as broken:
            broken.execute("ALTER TABLE commands RENAME TO elsewhere")
        commands(1)
        until_readyz(settings, lambda told: "unavailable" in str(told.get("degraded")))
        run_anywhere(forget(settings, "acme", "user:eve", by="ann", now=NOON))
        with sqlite3.connect(place) as repaired:
            repaired.execute("ALTER TABLE elsewhere RENAME TO commands")
        found: dict[str, int] = {}
        deadline = time.monotonic() + 60
        while found != {"user:bob": 2}:
            assert time.monotonic() < deadline, found
            time.sleep(0.3)
            with sqlite3.connect(place) as looked:
                found = dict(looked.execute("SELECT subject, count(*) FROM commands GROUP BY subject").fetchall())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0


def test_the_read_model_equals_the_topics_after_a_kill(
    kafka: str, prefix: str, tmp_path: Path, database: str | None
) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=4, database_url=database)  # type: ignore[arg-type]
    run_anywhere(topics.create(settings))
    run_anywhere(publish(settings, [Product(tenant="acme", name="shop", slo=0.95)]))
    running = {slot: start(settings, slot) for slot in (0, 1)}
    try:
        write(settings, rows_of(0))
        wait_until(settings, {"commands": 40})
        running[0].send_signal(signal.SIGKILL)
        running[0].wait(60)
        write(settings, rows_of(1))
        running[0] = start(settings, 0)
        write(settings, [*rows_of(2), *rows_of(3), *rows_of(3)])
        wait_until(
            settings, {"commands": 160, "detections": 160, "sink": 160, "deliveries.delivered": 160, "dead_letters": 1}
        )
        wait_until_ready(settings, 2)
        wait_until_defined(settings)
    finally:
        for process in running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        codes = [process.wait(90) for process in running.values()]
    assert codes == [0, 0]

    async def check() -> None:
        store = await open_store(settings.store_url)
        try:
            counts = await queries.counts(store)
            assert (counts["commands"], counts["detections"], counts["sink"]) == (160, 160, 160)
            rows = await queries.adoption(store, window="1h", at=NOON + 40 * MIN)
            assert [(r.feature, r.version, r.users) for r in rows] == [(f"f{i}", 3, 3) for i in range(5)]
            history = await queries.adoption_history(store, tenant="acme", product="shop", feature="f1", window="1h")
            assert [r.version for r in history] == [3] * 8
            (health,) = await queries.health_rows(store, at=NOON + 39 * MIN)
            assert health.score == 3.0
            letters = await queries.list_dead_letters(store, Filter())
            assert {(d.step, d.reason, d.topic) for d in letters} == {("project", "invalid", "detections")}
            assert (await queries.product_definition(store, "acme", "shop")).slo == 0.95
        finally:
            await store.close()

    run_anywhere(check())
