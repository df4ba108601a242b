"""The pump between DELIVER's rows and real servers: what it sends, what it holds back, and what one dead neighbour costs."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from agents.pump import Pump
from agents.rooms import Rooms, wall_clock
from app.clients.guard import Guard
from app.clients.outside import Clients
from app.clients.secrets import Secrets
from core.batch import Batch
from core.definitions import Catalogue
from core.delivery.deliver import DeliverTask, deliver_spec
from core.delivery.dispatch import bind
from core.effects import DeadLetter, Effect, Emit, Observe
from core.task import Task, TaskSpec
from schemas.commands import Command
from schemas.definitions import Connection, Pause
from schemas.delivery import Receipt, SinkRecord
from tests.helpers.kafka import free_port
from tests.helpers.web import Seen, serving
from tests.helpers.words import a_batch, a_command

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
FAR = 4_000_000_000_000


class Hall:
    """`agents.rooms.Wires` for one partition without Kafka: what is held is kept in a list."""

    def __init__(self, task: DeliverTask) -> None:
        self.task = task
        self.owned = True
        self.held: list[Effect] = []
        self.measured: list[Effect] = []
        self.changed = asyncio.Event()

    def channel(self, app: Any, spec: TaskSpec) -> Any:
        raise NotImplementedError("the pump reads no stream")

    def batches(self, stream: Any) -> AsyncIterator[tuple[Task, Batch]]:
        raise NotImplementedError("the pump reads no stream")

    def step(self, task: Task, batch: Batch) -> list[Effect] | None:
        raise NotImplementedError("the pump reads no stream")

    async def work(self, task: Task, batch: Batch) -> None:
        raise NotImplementedError("the pump reads no stream")

    def perform(self, task: Task, batch: Batch, effects: Iterable[Effect]) -> None:
        self.held += effects

    def hold(self, task: Task, effects: Iterable[Effect]) -> None:
        self.held += effects
        self.changed.set()

    def live(self, spec: TaskSpec) -> list[Task]:
        return [self.task] if self.owned else []

    def measure(self, effects: Iterable[Effect]) -> None:
        self.measured += effects


class Rig:
    """A pump at work on one task."""

    def __init__(self, *connections: Connection, topics: frozenset[str] = frozenset()) -> None:
        self.catalogue = Catalogue()
        self.connections = {c.name: c for c in connections}
        for connection in connections:
            self.catalogue.put(connection)
        self.hall = Hall(DeliverTask(0, self.catalogue))
        environ = {"UPTAKE_SECRET_ACME__HOOK": SECRET, "UPTAKE_SECRET_ACME__BOT": "xoxb-very-private"}

        async def exists(topic: str) -> bool:
            return topic in topics

        self.clients = Clients(Guard(["127.0.0.1"]), Secrets(environ, "UPTAKE_SECRET_", Path("/nonexistent")), exists)
        self.rooms = Rooms(wires=self.hall, catalogue=self.catalogue, outside=self.clients)
        self.pump = Pump(self.rooms, deliver_spec(self.catalogue))
        self.offset = 0

    def take(self, command: Command, connection: str) -> None:
        emit = bind(command, self.connections[connection])
        batch = a_batch(emit.topic, [emit.value], keys=[emit.key], first=self.offset, at=self.rooms.now())
        self.offset += 1
        self.hall.perform(self.hall.task, batch, self.hall.task.step(batch))
        self.pump.wake()

    def flying(self, connection: str) -> int:
        """Attempts in the air."""
        return sum(lane.in_flight for name, lane in self.hall.task._lanes.items() if name.endswith(f"|{connection}"))

    def emitted(self, topic: str) -> list[Emit]:
        return [e for e in self.hall.held if isinstance(e, Emit) and e.topic == topic]

    def receipts(self) -> list[Receipt]:
        return [Receipt.model_validate_json(e.value or b"") for e in self.emitted("receipts")]

    async def until(self, count: int, *, final: bool = True, within_s: float = 90) -> list[Receipt]:
        """The receipts, once there are so many."""
        async with asyncio.timeout(within_s):
            while len(found := [r for r in self.receipts() if r.final or not final]) < count:
                self.hall.changed.clear()
                await self.hall.changed.wait()
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        run = asyncio.create_task(self.pump.run())
        try:
            yield
        finally:
            await self.pump.stop(grace_s=0.1)
            await run
            await self.clients.close()


def hook(url: str, name: str = "hook", **changed: Any) -> Connection:
    config = {"url": url, "secret": {"env": "UPTAKE_SECRET_ACME__HOOK"}}
    values: dict[str, Any] = {
        "tenant": "acme", "name": name, "integration": "webhook", "config": config, "enabled": True, "max_age_s": 10**8,
    }  # fmt: skip
    return Connection(**{**values, **changed})


def a_now_command(cause: str = "1", **changed: Any) -> Command:
    return a_command(cause=cause, expires_at=FAR, **changed)


async def test_a_webhook_arrives_signed_and_retries_keep_their_id() -> None:
    answers = iter([503, 503, 200])
    async with serving(lambda seen: web.Response(status=next(answers))) as server:
        rig = Rig(hook(server.url("/hook")))
        async with rig.running():
            rig.take(a_now_command(), "hook")
            [receipt] = await rig.until(1)
        assert (receipt.status, receipt.attempt) == ("delivered", 3)
        assert [r.status for r in rig.receipts()] == ["retrying", "retrying", "delivered"]
        assert {seen.headers["webhook-id"] for seen in server.seen} == {receipt.delivery}
        for seen in server.seen:
            sent = Webhook(SECRET).verify(seen.body, seen.headers)
            assert sent["data"]["id"] == receipt.command


async def test_slack_says_no_in_its_own_ways() -> None:
    def slack(seen: Seen) -> web.Response:
        assert seen.path == "/api/chat.postMessage"
        assert seen.headers["authorization"] == "Bearer xoxb-very-private"
        text = json.loads(seen.body)["text"]
        if "slow" in text and len(server.seen) == 1:
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": "1"})
        if "nowhere" in text:
            return web.json_response({"ok": False, "error": "channel_not_found"})
        return web.json_response({"ok": True, "ts": "1.2"})

    async with serving(slack) as server:
        config = {"bot_token": {"env": "UPTAKE_SECRET_ACME__BOT"}, "channel": "C1", "base_url": server.url("/api")}
        rig = Rig(hook("http://unused.invalid", "team", integration="slack", config=config))
        async with rig.running():
            rig.take(a_now_command("1", title="slow"), "team")
            [first] = await rig.until(1, final=False)
            assert (first.status, first.reason) == ("retrying", "http_429")
            assert first.retry_at is not None
            assert first.retry_at - first.at >= 1_000
            [done] = await rig.until(1)
            assert (done.status, done.remote_id) == ("delivered", "1.2")
            assert done.at >= first.retry_at
            rig.take(a_now_command("2", title="nowhere"), "team")
            refused = (await rig.until(2))[1]
        assert (refused.status, refused.reason) == ("rejected", "channel_not_found")
        [dead] = [e for e in rig.hall.held if isinstance(e, DeadLetter)]
        assert (dead.reason, dead.detail) == ("rejected", "channel_not_found")
        assert b"xoxb-very-private" not in repr(rig.hall.held).encode()


async def test_the_sandbox_sends_nothing_and_shows_what_it_would_have() -> None:
    async with serving(lambda seen: web.Response()) as server:
        rig = Rig(hook(server.url("/hook"), enabled=False))
        async with rig.running():
            rig.take(a_now_command(), "hook")
            [receipt] = await rig.until(1)
        assert (receipt.status, receipt.sandboxed) == ("delivered", True)
        assert server.seen == []
    [emit] = rig.emitted("sink")
    record = SinkRecord.model_validate_json(emit.value or b"")
    assert record.sandboxed
    assert record.rendered is not None
    assert record.rendered["url"] == server.url("/hook")
    assert SECRET not in str(record.rendered)
    assert emit.key == b"acme|hook"


async def test_a_kafka_delivery_is_a_record_of_the_same_checkpoint_once_its_topic_is_there() -> None:
    there = hook("", "there", integration="kafka", config={"topic": "acme.in"})
    missing = hook("", "missing", integration="kafka", config={"topic": "acme.none"}, max_attempts=1)
    rig = Rig(there, missing, topics=frozenset({"acme.in"}))
    async with rig.running():
        rig.take(a_now_command("1"), "there")
        rig.take(a_now_command("2"), "missing")
        receipts = {r.connection: r for r in await rig.until(2)}
    assert receipts["there"].status == "delivered"
    assert receipts["missing"].reason == "attempts_exhausted: no_topic"
    [emit] = rig.emitted("acme.in")
    assert Command.model_validate_json(emit.value or b"").cause == "1"
    assert rig.emitted("acme.none") == []


async def test_what_is_wrong_with_a_connection_is_said_without_its_secrets() -> None:
    literal = hook("http://127.0.0.1:1/", "literal", config={"url": "http://127.0.0.1:1/", "secret": SECRET})
    unset = hook(
        "", "unset", config={"url": "http://127.0.0.1:1/", "secret": {"env": "UPTAKE_SECRET_ACME__NO"}}, max_attempts=1
    )
    private = hook("http://10.0.0.1/", "private")
    retired = hook("http://127.0.0.1:1/", "retired")
    rig = Rig(literal, unset, private, retired)
    for cause, name in enumerate(rig.connections):
        rig.take(a_now_command(str(cause)), name)
    rig.catalogue.apply(b"acme|connection|retired", None)
    async with rig.running():
        reasons = {r.connection: r.reason or "" for r in await rig.until(4)}
    assert reasons["literal"].startswith("bad_connection: secret is a secret")
    assert reasons["unset"].startswith(
        "attempts_exhausted: secret_unavailable: environment variable UPTAKE_SECRET_ACME__NO"
    )
    assert reasons["private"] == "blocked"
    assert reasons["retired"] == "connection_retired"
    assert SECRET not in repr(rig.hall.held)


async def test_a_pause_takes_effect_on_what_waits_within_a_second() -> None:
    async with serving(lambda seen: web.Response()) as server:
        rig = Rig(hook(server.url(), rate_per_s=20.0))
        async with rig.running():
            for n in range(100):
                rig.take(a_now_command(str(n)), "hook")
            await rig.until(10)
            rig.catalogue.put(Pause(tenant="acme", name="connection:hook", scope="connection", of="hook"))
            asked_at = rig.rooms.now()
            await asyncio.sleep(1.5)
            assert all(r.at <= asked_at + 1_000 for r in rig.receipts())
            assert rig.hall.task.waiting > 50
            rig.catalogue.put(hook(server.url(), version=2))
            rig.catalogue.apply(b"acme|pause|connection:hook", None)
            assert len(await rig.until(100)) == 100
        assert len({seen.headers["webhook-id"] for seen in server.seen}) == len(server.seen) == 100


async def test_a_dead_neighbour_delays_only_its_own() -> None:
    released = asyncio.Event()

    async def never(seen: Seen) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(never) as dead, serving(lambda seen: web.Response()) as healthy:
        nobody = f"http://127.0.0.1:{free_port()}/"
        rig = Rig(hook(dead.url(), "hanging"), hook(nobody, "absent"), hook(healthy.url(), "healthy"))
        async with rig.running():
            for n in range(300):
                for name in rig.connections:
                    rig.take(a_now_command(f"{name}-{n}"), name)
            delivered = await rig.until(300)
            assert {r.connection for r in delivered} == {"healthy"}
            assert len(dead.seen) == 8
            assert rig.hall.task.waiting == 600
            released.set()


async def test_stop_waits_for_what_is_in_the_air_and_starts_nothing_more() -> None:
    released = asyncio.Event()

    async def slow(seen: Seen) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(slow) as server:
        rig = Rig(hook(server.url(), max_concurrency=2))
        run = asyncio.create_task(rig.pump.run())
        for n in range(10):
            rig.take(a_now_command(str(n)), "hook")
        async with asyncio.timeout(60):
            while len(server.seen) < 2:
                await asyncio.sleep(0.01)
        stopping = asyncio.create_task(rig.pump.stop(grace_s=10))
        await asyncio.sleep(0)
        released.set()
        await stopping
        await run
        await rig.clients.close()
        assert len(server.seen) == 2
        assert [r.status for r in rig.receipts()] == ["delivered", "delivered"]
        assert rig.hall.task.waiting == 8


BEHAVIOURS = ("hangs", "resets", "500", "429")


def misbehaving(how: list[str]) -> Any:
    """A destination that does what `how` says, until it says `well`."""

    async def answer(seen: Seen) -> web.StreamResponse:
        match how[0]:
            case "hangs":
                await asyncio.sleep(30)
            case "resets":
                seen.abort()
            case "500":
                return web.Response(status=500)
            case "429":
                return web.Response(status=429, headers={"Retry-After": "3600"})
        return web.Response()

    return answer


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_dead_destination_is_left_alone_and_delays_nobody(behaviour: str) -> None:
    """Its breaker opens (or its patience is kept), the neighbour gets everything; a probe finds out when it is well again."""
    how = [behaviour]
    async with serving(misbehaving(how)) as dead, serving(lambda seen: web.Response()) as well:
        rig = Rig(hook(dead.url("/"), "dead", deadline_s=0.2, max_attempts=100), hook(well.url("/"), "well"))
        # Stands still but where the test moves it: on a slow machine the breaker's five seconds would pass by themselves.
        began, clock = wall_clock(), {"ahead": 0}
        rig.rooms = replace(rig.rooms, now=lambda: began + clock["ahead"])
        rig.pump = Pump(rig.rooms, deliver_spec(rig.catalogue))
        async with rig.running():
            for n in range(60):
                rig.take(a_now_command(f"d{n}"), "dead")
            for n in range(60):
                rig.take(a_now_command(f"w{n}"), "well")
            await rig.until(60)
            assert {r.connection for r in rig.receipts() if r.final} == {"well"} and len(well.seen) == 60
            if behaviour == "429":  # it works, it asks for patience: nothing is sent that was not already on its way
                await rig.until(60 + 8, final=False)
                assert len(dead.seen) == 8 and rig.pump.degraded() == {}
                return
            async with asyncio.timeout(60):
                while not (rig.pump.degraded() and not rig.flying("dead")):
                    await asyncio.sleep(0.01)
            assert rig.pump.degraded() == {"connection acme|dead": "breaker open"}
            tried = len(dead.seen)
            assert tried <= 8 + 8
            clock["ahead"] += 6_000
            async with asyncio.timeout(60):
                while len(dead.seen) == tried or rig.flying("dead"):
                    await asyncio.sleep(0.01)
            assert len(dead.seen) == tried + 1 and rig.pump.degraded() == {"connection acme|dead": "breaker open"}
            how[0] = "well"
            # Patience for a destination that answers: on a slow machine an answer takes longer than a test wants to hang.
            rig.catalogue.put(hook(dead.url("/"), "dead", max_attempts=100))
            clock["ahead"] += 400_000
            rig.pump.wake()
            await rig.until(120)
            assert rig.pump.degraded() == {}
            shown = [e.value for e in rig.hall.measured if isinstance(e, Observe) and e.labels == ("acme|dead",)]
            assert shown[0] == 2 and 1 in shown and shown[-1] == 0
            delivered = [r for r in rig.receipts() if r.connection == "dead" and r.status == "delivered"]
            assert len(delivered) == len({r.delivery for r in delivered}) == 60


async def test_what_waits_in_a_partition_that_has_gone_is_no_longer_told() -> None:
    async with serving(misbehaving(["500"])) as server:
        rig = Rig(hook(server.url()))
        async with rig.running():
            rig.take(a_now_command(), "hook")
            await rig.until(1, final=False)
            told = [e for e in rig.hall.task.tick(rig.rooms.now(), []) if isinstance(e, Observe)]
            assert Observe("uptake_parked", 1, ("webhook", "0")) in told
            rig.hall.owned = False
            rig.pump.wake()
            async with asyncio.timeout(20):
                while Observe("uptake_parked", 0, ("webhook", "0")) not in rig.hall.measured:
                    await asyncio.sleep(0.01)
