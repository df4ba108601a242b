"""Processes: kept alive, started again, ended together; a real deployment end to end with two processes a role."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import topics
from app.cli.status import caught_up
from app.definitions import publish
from app.kafka import producer, read, settle
from app.letters import Order, letters, redrive
from app.probes import targets
from app.send import FileRows, Mapping, SendOptions, send
from app.settings import Settings
from app.watch import workers
from app.worker import Child, Supervisor, WorkerFailed, worker_children
from core.letters import Filter
from schemas.definitions import CommandTemplate, Connection, OnEvent, Product, Rule, Source
from tests.helpers.kafka import make_topic
from tests.helpers.settings import settings_for
from tests.helpers.shown import rows_in


def child(code: str, tmp_path: Path, **more: Any) -> Child:
    return Child("c", [sys.executable, "-c", code], {}, tmp_path / "c.log", **more)


async def test_a_child_that_keeps_dying_ends_it_with_its_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    code = "import sys; sys.stderr.write('no luck today\\n'); sys.exit(9)"
    supervisor = Supervisor([child(code, tmp_path)], lambda name, text: said.append(text))
    supervisor.start()
    with pytest.raises(WorkerFailed, match=r"exit code 9\): no luck today. Its log: .*c.log"):
        await asyncio.wait_for(supervisor.wait(), 60)
    await supervisor.stop()
    assert supervisor.children[0].starts == 6


async def test_a_killed_child_starts_again_and_stop_ends_it(tmp_path: Path) -> None:
    supervisor = Supervisor([child("import time; time.sleep(600)", tmp_path)], lambda name, text: None)
    supervisor.start()
    one = supervisor.children[0]
    assert await settle(lambda: one.process is not None, within_s=60)
    for _ in range(8):
        assert one.process is not None
        before = one.process.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(before, signal.SIGKILL)
        assert await settle(lambda old=before: one.process is not None and one.process.pid != old, within_s=60)
    await supervisor.stop()
    assert one.process is not None and one.process.returncode == -signal.SIGTERM


async def test_children_come_and_go_while_the_others_run(tmp_path: Path) -> None:
    supervisor = Supervisor([child("import time; time.sleep(600)", tmp_path)], lambda name, text: None)
    supervisor.start()
    more = Child("more", [sys.executable, "-c", "import time; time.sleep(600)"], {}, tmp_path / "more.log")
    supervisor.add(more)
    one = supervisor.children[0]
    assert await settle(lambda: one.process is not None and more.process is not None, within_s=60)
    await supervisor.remove(more)
    assert more.process is not None and more.process.returncode == -signal.SIGTERM and more.starts == 1
    assert one.process is not None and one.process.returncode is None and supervisor.children == [one]
    await supervisor.stop()


async def test_kafka_that_was_there_is_waited_for_however_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3 of a process that once ran well does not count as dying; of one that never did it does."""
    monkeypatch.setattr("app.worker.HEALTHY_AFTER_S", 0.5)
    monkeypatch.setattr("app.worker.LONGEST_BACKOFF_S", 0.01)
    monkeypatch.setattr("app.worker.FIRST_BACKOFF_S", 0.01)
    mark = tmp_path / "mark"
    well = f"import pathlib, sys, time; p = pathlib.Path({str(mark)!r}); n = p.exists(); p.touch(); n or time.sleep(1); sys.exit(3)"
    supervisor = Supervisor([child(well, tmp_path)], lambda name, text: None)
    supervisor.start()
    assert await settle(lambda: supervisor.children[0].starts > 9, within_s=60)
    await supervisor.stop()
    never = Supervisor([child("import sys; sys.exit(3)", tmp_path)], lambda name, text: None)
    never.start()
    with pytest.raises(WorkerFailed, match="exit code 3"):
        await asyncio.wait_for(never.wait(), 60)
    await never.stop()


async def test_a_child_that_asks_for_it_starts_again_at_once(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"import pathlib, sys; p = pathlib.Path({str(mark)!r}); n = p.exists(); p.touch(); sys.exit(0 if n else 75)"
    supervisor = Supervisor([child(code, tmp_path, essential=False)])
    supervisor.start()
    await asyncio.wait_for(supervisor.wait(), 30)
    assert supervisor.children[0].starts == 2


def usage(n: int) -> dict[str, Any]:
    return {
        "id": f"e{n}",
        "tenant": "acme",
        "product": "studio",
        "type": "feature.used",
        "feature": "board" if n % 3 else "export",
        "user": f"u{n % 40}",
        "occurred_at": 1_760_000_000_000 + n * 1000,
    }


RULE = Rule(
    name="first-use",
    id="T1",
    trigger=OnEvent(topic="events.usage", where=None, subject="user"),
    command=CommandTemplate(type="product.tutorial.deploy", title="{{ user }} used {{ feature }}", text="."),
    cooldown_s=86_400 * 365,
    ceiling_per_hour=10_000,
)
SINK = Connection(
    name="hook",
    integration="webhook",
    config={"url": "https://example.com/hook", "secret": {"env": "UPTAKE_SECRET_HOOK"}},
)


@pytest.mark.kafka
@pytest.mark.timeout(280)
async def test_events_become_commands_and_deliveries_once_with_two_processes_a_role(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    settings = settings_for(kafka, prefix, tmp_path)
    await topics.create(settings)
    await publish(settings, [Product(tenant="acme", name="studio"), RULE, SINK])
    supervisor = Supervisor(
        worker_children(settings, {"meter": 2, "decide": 2, "deliver": 2, "project": 2}), lambda name, text: None
    )
    supervisor.start()
    try:
        assert await settle_workers(settings, 8)
        await send_rows(settings, tmp_path / "a.jsonl", range(600))
        meter = next(c for c in supervisor.children if c.name == "meter-0")
        assert meter.process is not None
        os.kill(meter.process.pid, signal.SIGKILL)
        await send_rows(settings, tmp_path / "b.jsonl", range(600, 1200))
        assert await until_sunk(settings, 40)
        assert await caught_up(settings, 90)
        for role, address in targets(settings.run_dir / "targets").values():
            async with httpx.AsyncClient() as http:
                answer = await http.get(f"http://{address}/livez")
                metrics = (await http.get(f"http://{address}/metrics")).text
            assert answer.status_code == 200 and role in answer.json()["worker"]
            assert "uptake_checkpoints_total" in metrics
    finally:
        await supervisor.stop()
    commands = Counter(json.loads(r.value or b"")["id"] for r in await rows_in(settings, "commands.product"))
    receipts = [json.loads(r.value or b"") for r in await rows_in(settings, "receipts")]
    delivered = Counter(r["delivery"] for r in receipts if r["status"] == "delivered")
    sunk = Counter(json.loads(r.value or b"")["delivery"] for r in await rows_in(settings, "sink"))
    assert len(commands) == 40 and set(commands.values()) == {1}
    assert len(sunk) == 40 and set(sunk.values()) == {1}
    assert delivered == sunk
    # Every match has its answer: 40 commands, the other rows inside their users' cool-downs.
    assert Counter(r["reason"] for r in receipts if r["status"] == "suppressed") == {"cooldown": 1160}
    assert targets(settings.run_dir / "targets") == {}


@pytest.mark.kafka
@pytest.mark.timeout(200)
async def test_a_source_added_while_running_is_read(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, prefix, tmp_path)
    await topics.create(settings)
    own = f"{prefix}their.clicks"
    await make_topic(settings, own)
    async with producer(settings) as made:
        for n in range(20):
            row = {"who": f"u{n % 5}", "ts": 1_760_000_000 + n} if n else {"ts": "bad"}
            await made.send_and_wait(own, json.dumps(row).encode())
    supervisor = Supervisor(worker_children(settings, {"meter": 1}), lambda name, text: None)
    supervisor.start()
    try:
        assert await settle_workers(settings, 1)
        source = Source(
            name="clicks",
            topic=own,
            target="events.usage",
            fields={"user": "who", "occurred_at": "ts"},
            constants={"tenant": "acme", "product": "studio", "feature": "board"},
            time_unit="s",
            id_from="position",
        )
        await publish(settings, [source])

        async def mapped() -> list[dict[str, Any]]:
            return [json.loads(r.value or b"") async for r in read(settings, ["events.usage"])]

        for _ in range(240):
            if len(await mapped()) >= 19:
                break
            await asyncio.sleep(0.5)
        found = await mapped()
    finally:
        await supervisor.stop()
    assert Counter(e["id"] for e in found) == Counter(f"{own}/0/{n}" for n in range(1, 20))
    dead = await rows_in(settings, "dead-letters")
    assert [r.value for r in dead] == [b'{"ts": "bad"}']
    assert supervisor.children[0].starts == 2


@pytest.mark.kafka
async def test_rows_that_were_set_aside_count_once_the_cause_is_repaired(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Nobody had defined the product (strict mode); somebody does, and sends the dead letters again."""
    settings = settings_for(kafka, prefix, tmp_path, strict=True)
    await topics.create(settings)
    supervisor = Supervisor(worker_children(settings, {"meter": 1}), lambda name, text: None)
    supervisor.start()
    try:
        assert await settle_workers(settings, 1)
        async with producer(settings) as made:
            for n in range(30):
                row = usage(n)
                key = f"{row['tenant']}|{row['user']}".encode()
                await made.send_and_wait(settings.topic("events.usage"), json.dumps(row).encode(), key=key)
        assert await until_counted(settings, "dead", 30)
        unknown = [r async for r in letters(settings, Filter(step="meter"))]
        assert len(unknown) == 30 and {r.reason for r in unknown} <= {"unknown_product", "unknown_tenant"}
        names = {(str(usage(n)["tenant"]), str(usage(n)["product"])) for n in range(30)}
        await publish(settings, [Product(tenant=tenant, name=name) for tenant, name in names])
        made_again = await redrive(settings, Order(Filter(), "ann", 1_000.0), lambda: 1)
        assert made_again.redriven == 30
        assert await until_counted(settings, "accepted", 30)
        assert (await redrive(settings, Order(Filter(), "ann", 1_000.0), lambda: 1)).redriven == 0
    finally:
        await supervisor.stop()


async def until_counted(settings: Settings, outcome: str, n: int) -> bool:
    """Whether METER comes to have so many rows of this outcome."""
    line = f'uptake_rows_total{{outcome="{outcome}",topic="events.usage"}} {n}.0'
    async with httpx.AsyncClient() as client:
        for _ in range(240):
            for _, address in targets(settings.run_dir / "targets").values():
                if line in (await client.get(f"http://{address}/metrics")).text:
                    return True
            await asyncio.sleep(0.25)
    return False


async def settle_workers(settings: Settings, n: int) -> bool:
    for _ in range(480):
        found = await workers(settings, metrics=False)
        if len(found) == n and all(w.ready for w in found):
            return True
        await asyncio.sleep(0.25)
    return False


async def until_sunk(settings: Settings, n: int) -> bool:
    for _ in range(240):
        if len([r async for r in read(settings, ["sink"])]) >= n:
            return True
        await asyncio.sleep(0.5)
    return False


async def send_rows(settings: Settings, file: Path, numbers: range) -> None:
    file.write_text("".join(json.dumps(usage(n)) + "\n" for n in numbers))
    await send(settings, FileRows(file, Mapping()), SendOptions(act=True))
