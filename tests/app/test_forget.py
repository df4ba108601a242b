"""A person is forgotten in a running system: nothing of it is left in any state or in the read model, and nothing comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app import topics
from app.archive.files import unpack
from app.cli.status import caught_up
from app.definitions import load, publish
from app.export import export
from app.forget import BadSubject, forget
from app.kafka import bootstrap, producer, read
from app.settings import Settings
from app.store import open_store
from app.watch import workers
from app.worker import Supervisor, worker_children
from core.meter import state
from schemas.definitions import CommandTemplate, Connection, OnEvent, Product, Rule, Segment, Silence
from tests.app.store.test_forget import text_of
from tests.helpers.kafka import free_port
from tests.helpers.settings import settings_for
from transport.state import read_state

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(280)]
WHO = "ann-who-wants-to-go"
STATES = ("meter", "decide.registers", "decide.signals", "dispatch", "deliver")


def definitions() -> list[Any]:
    command = CommandTemplate(type="product.tutorial.deploy", title="{{ user }} used {{ feature }}", text=".")
    where = {"url": f"http://127.0.0.1:{free_port()}/", "secret": {"env": "UPTAKE_SECRET_HOOK"}}
    return [
        Product(tenant="acme", name="studio"),
        Rule(name="use", id="use", trigger=OnEvent(topic="events.usage"), command=command, cooldown_s=3_600),
        # Nobody listens there, so deliveries wait.
        Connection(tenant="acme", name="hook", integration="webhook", config=where, enabled=True),
        Connection(tenant="acme", name="sandboxed", integration="kafka", config={"topic": "theirs"}),
        Segment(tenant="acme", name="vips", product="studio", users=[WHO, "bob"]),
        Silence(tenant="acme", name="hush", subjects=[f"user:{WHO}"], ends_at=1),
        Silence(tenant="acme", name="hush-both", subjects=[f"user:{WHO}", "user:bob"], ends_at=1),
    ]


async def send(settings: Settings, n: int, *users: str) -> None:
    async with producer(settings) as made:
        for user in users:
            at = 1_760_000_000_000 + n * 1_000
            row = {
                "id": f"{user}-{n}",
                "tenant": "acme",
                "product": "studio",
                "type": "feature.used",
                "feature": "board",
            }
            value = json.dumps({**row, "user": user, "occurred_at": at}).encode()
            await made.send_and_wait(settings.topic("events.usage"), value, key=f"acme|{user}".encode())
            bad = json.dumps({**row, "user": user}).encode()
            await made.send_and_wait(settings.topic("events.usage"), bad, key=f"acme|{user}".encode())


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    roles = {"meter": 1, "decide": 1, "deliver": 1, "project": 1, "archive": 1}
    supervisor = Supervisor(worker_children(settings, roles), lambda name, text: None)  # type: ignore[arg-type]
    supervisor.start()
    try:
        yield
    finally:
        await supervisor.stop()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(90):
        while not await holds():
            await asyncio.sleep(0.25)


async def states(settings: Settings) -> str:
    """The live rows of every state topic, unpacked, as text."""
    found = ""
    for name in STATES:
        for partition in range(settings.partitions):
            live: dict[bytes, bytes | None] = {}
            topic = settings.topic(f"state.{name}")
            async for key, value in read_state(bootstrap(settings), topic, partition):
                live[key] = value
            for key, value in live.items():
                if value is not None:
                    unpacked = state.decode(value) if name == "meter" else value
                    found += f"{key!r} {unpacked!r}\n"
    return found


async def read_model(settings: Settings) -> str:
    store = await open_store(settings.store_url)
    try:
        return await text_of(store)
    finally:
        await store.close()


def archived(settings: Settings) -> str:
    """Every row of the archive's files, unpacked, as text."""
    return "".join(repr(unpack(path.read_bytes()).rows()) for path in Path(settings.archive_place).rglob("*.parquet"))


async def counted(settings: Settings, metric: str) -> float:
    import httpx
    from prometheus_client.parser import text_string_to_metric_families

    total = 0.0
    async with httpx.AsyncClient(trust_env=False) as http:
        for worker in await workers(settings):
            text = (await http.get(f"http://{worker.address}/metrics")).text
            for family in text_string_to_metric_families(text):
                total += sum(s.value for s in family.samples if s.name == metric)
    return total


async def test_a_person_is_forgotten_everywhere(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, prefix, tmp_path, archive_roll_s=2)
    await topics.create(settings)
    await publish(settings, definitions())
    async with working(settings):
        await send(settings, 0, WHO, "bob")

        async def there() -> bool:
            return (
                f"{WHO}-0" in archived(settings)
                and "hush-both" in archived(settings)
                and all(
                    f"user:{who}" in text and text.count(f"{who}-0") >= 1
                    for text in [await read_model(settings)]
                    for who in (WHO, "bob")
                )
                and WHO in await states(settings)
            )

        await until(there)
        assert await caught_up(settings, 90)
        held = await export(settings, "acme", f"user:{WHO}", 1)
        assert [p["product"] for p in held["profiles"]] == ["studio"] and held["profiles"][0]["events"] == 1
        assert held["definitions"] == ["segment vips", "silence hush", "silence hush-both"]
        assert all(held["read_model"][name] for name in ("commands", "receipts", "deliveries", "sink", "dead_letters"))
        assert held["waiting"] and held["remembered"]
        assert {"events.usage", "dead-letters", "signals", "commands.product", "receipts"} <= held["log"].keys()
        assert "bob" not in json.dumps(held["read_model"]) + json.dumps(held["log"])

        asked = await forget(settings, "acme", f"user:{WHO}", by="a test", now=7)
        assert not asked.before and asked.rewritten == ["segment vips", "silence hush", "silence hush-both"]
        assert WHO not in asked.model_dump_json()

        async def gone() -> bool:
            if WHO in archived(settings):  # cheaper to ask than the rest
                return False
            return WHO not in await read_model(settings) + await states(settings) + archived(settings)

        await until(gone)
        assert "user:bob" in await read_model(settings) and "bob" in await states(settings)
        assert "bob-0" in archived(settings) and "user:bob" in archived(settings)
        rewritten = {d.name: d for d in (await load(settings)).heads()}
        assert rewritten["vips"].users == ["bob"] and rewritten["hush-both"].subjects == ["user:bob"]  # type: ignore[union-attr]
        assert "hush" not in rewritten
        live = {r.key: r.value async for r in read(settings, ["definitions"])}
        assert not any(WHO.encode() in (value or b"") for value in live.values())

        before = await counted(settings, "uptake_forgotten_total")
        assert before > 0
        await send(settings, 1, WHO, "bob")
        assert await caught_up(settings, 90)

        async def dropped() -> bool:
            return await counted(settings, "uptake_forgotten_total") >= before + 2  # the good row, and the bad one

        await until(dropped)

        async def kept() -> bool:
            return "bob-1" in archived(settings)

        await until(kept)
        await until(gone)
        again = await forget(settings, "acme", f"user:{WHO}", by="another", now=8)
        assert again.before and (again.digest, again.asked_at, again.by) == (asked.digest, 7, "a test")
        held = await export(settings, "acme", f"user:{WHO}", 9)
        assert [held[name] for name in ("profiles", "definitions", "waiting", "remembered")] == [[]] * 4
        assert not any(held["read_model"].values())
        # What a log has it keeps until its retention is over: this much is said, not hidden.
        assert len(held["log"]["events.usage"]) == 4 and "events.usage" in asked.expire_days


@pytest.mark.parametrize("subject", ["ann", "user:", "product:studio", ":ann", ""])
async def test_only_people_are_forgotten(subject: str, tmp_path: Path) -> None:
    with pytest.raises(BadSubject, match="give user:NAME or contact:NAME"):
        await forget(settings_for("127.0.0.1:1", "", tmp_path), "acme", subject, by="x", now=1)
