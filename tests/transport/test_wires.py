"""What agents and the runtime see: tables in Faust's listings, ticks when asked for, dead tasks, two apps in one process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.batch import Batch
from core.effects import Effect, Emit
from core.task import TaskSpec
from tests.transport.counting import CountingTask, build, spec
from tests.transport.kit import counting_topics, produce, read_all, until
from tests.transport.test_life import check_once, numbered, options, read, ready, running
from transport.app import RoleApp, make_app
from transport.metrics import Unmetered
from transport.options import Options, Security
from transport.wires import KafkaWires

pytestmark = pytest.mark.kafka


def test_a_topic_or_a_group_belongs_to_one_spec(tmp_path: Path) -> None:
    given = Options(bootstrap="nowhere:1", role="counter", data_dir=tmp_path)
    app = make_app(given, Unmetered())
    wires = KafkaWires(app, given, Unmetered())
    wires.channel(app, spec())
    with pytest.raises(ValueError, match="two task groups"):
        wires.channel(app, spec(("other",)))


def test_secrets_stay_out_of_reprs(tmp_path: Path) -> None:
    security = Security("SASL_SSL", "PLAIN", "me", "hunter2")
    given = Options(bootstrap="nowhere:1", role="counter", data_dir=tmp_path, security=security)
    assert "hunter2" not in repr(given) and "hunter2" not in repr(make_app(given, Unmetered()))
    assert security.client()["sasl_plain_password"] == "hunter2"


async def test_tables_are_known_to_faust_and_not_read_by_it(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    app, wires = build(options(kafka, prefix, tmp_path))
    await app.start()
    try:
        await until(lambda: ready(wires))
        (table,) = app.tables.values()
        assert table.name == "counter.counting" and table.changelog_topic.get_topic_name() == f"{prefix}state.counter"
        assert {tp.topic for tp in app.consumer.assignment()} == {f"{prefix}in"}
        await until(lambda: app.tables.actives_ready)
    finally:
        await app.stop()


async def test_wakes_when_the_task_asks(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)

    class Timed(CountingTask):
        due: int | None = None

        def wake_at(self) -> int | None:
            return self.due

        def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
            super().tick(now, caught_up)
            if self.due is not None and now >= self.due:
                self.due = None
                return [Emit("out", b"k", b"timer %d" % now, self.partition)]
            return []

        def step(self, batch: Batch) -> Iterable[Effect]:
            self.due = int(batch.timestamps[-1]) + 300
            return []

    async with running(options(kafka, prefix, tmp_path), spec(make=Timed)) as wires:
        await until(lambda: ready(wires))
        task = wires.live(spec())[0]
        assert isinstance(task, Timed)
        await produce(kafka, f"{prefix}in", [(0, b"x")])
        await until(lambda: task.due is not None)
        due = task.due
        assert due is not None
        await until(lambda: task.due is None)
        late = next(now for now, _ in task.ticks if now >= due) - due
        assert 0 <= late < 500  # once a second would be late by up to 700
    assert len((await read_all(kafka, f"{prefix}out", 2))[0]) == 1


async def test_a_dead_task_holds_nothing(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    async with running(options(kafka, prefix, tmp_path)) as wires:
        await until(lambda: ready(wires))
        task = wires.live(spec())[0]
        wires.hold(task, [Emit("out", b"k", b"alive", 0)])
        await until(lambda: _out(kafka, prefix, [b"alive"]))
    wires.hold(task, [Emit("out", b"k", b"dead", 0)])
    wires.perform(task, Batch("in", 0, [], *[None] * 2, 0, None), [])  # type: ignore[arg-type]
    assert wires.live(spec()) == [] and wires.status() == []
    assert await _out(kafka, prefix, [b"alive"])


async def test_two_apps_in_one_process_share_the_partitions(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    first, second = build(options(kafka, prefix, tmp_path / "1")), build(options(kafka, prefix, tmp_path / "2"))
    await first[0].start()
    await until(lambda: ready(first[1]))
    await produce(kafka, f"{prefix}in", numbered(100))
    await second[0].start()
    try:
        await until(lambda: ready(first[1], 1) and ready(second[1], 1))
        await produce(kafka, f"{prefix}in", numbered(100, 100))
        await until(lambda: read(first[1]) + read(second[1]) == 200)
    finally:
        await asyncio.gather(first[0].stop(), second[0].stop())
    await check_once(kafka, prefix, numbered(200))


async def test_partitions_move_where_state_is_kept_outside(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Offsets for lag tools are committed inside the rebalance; positions are read again by the new owner."""
    await counting_topics(kafka, prefix, 2)
    stored: dict[int, dict[str, int]] = {0: {}, 1: {}}
    rows: list[bytes | None] = []

    async def positions(partition: int) -> Mapping[str, int]:
        return stored[partition]

    made = TaskSpec("counter", "outside", ("in",), lambda n: CountingTask(n, quiet=True), None, positions)

    def outside(name: str) -> tuple[RoleApp, KafkaWires]:
        given = options(kafka, prefix, tmp_path / name)
        app = make_app(given, Unmetered())
        wires = KafkaWires(app, given, Unmetered())

        async def write(stream: Any) -> None:
            async for task, batch in wires.batches(stream):
                await asyncio.sleep(0.01)
                rows.extend(batch.values)
                stored[batch.partition] = {batch.topic: batch.next_offset}
                wires.perform(task, batch, task.step(batch))

        app.agent(wires.channel(app, made), name="outside")(write)
        return app, wires

    first, second = outside("1"), outside("2")
    await first[0].start()
    await until(lambda: ready(first[1]))
    await produce(kafka, f"{prefix}in", numbered(200))
    await second[0].start()
    try:
        await until(lambda: ready(first[1], 1) and ready(second[1], 1))
        await produce(kafka, f"{prefix}in", numbered(200, 200))
        await until(lambda: read(first[1]) + read(second[1]) == 400)
    finally:
        await asyncio.gather(first[0].stop(), second[0].stop())
    assert Counter(rows) == Counter(value for _, value in numbered(400))


async def test_outputs_that_cannot_be_written_say_where(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)

    class Lost(CountingTask):
        def step(self, batch: Batch) -> Iterable[Effect]:
            return [Emit("nowhere", b"k", b"v")]

    async with running(options(kafka, prefix, tmp_path, request_timeout_ms=1_000), spec(make=Lost)) as wires:
        await until(lambda: ready(wires))
        await produce(kafka, f"{prefix}in", [(0, b"x")])
        await until(lambda: any("cannot write to" in status.error for status in wires.status()))
        assert f"{prefix}nowhere" in wires.status()[0].error and wires.status()[1].state == "ready"


async def test_a_slow_agent_is_not_buried(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Many small batches, an agent slower than the fetches: at most the channel's size waits for it."""
    await counting_topics(kafka, prefix, 2)
    given = options(kafka, prefix, tmp_path, batch_rows=10, queued_batches=4)
    app = make_app(given, Unmetered())
    wires = KafkaWires(app, given, Unmetered())
    channel = wires.channel(app, spec())
    deepest = 0

    async def slow(stream: Any) -> None:
        nonlocal deepest
        async for task, batch in wires.batches(stream):
            await asyncio.sleep(0.003)
            deepest = max(deepest, stream.channel.queue.qsize())
            wires.perform(task, batch, task.step(batch))

    app.agent(channel, name="slow")(slow)
    rows = numbered(4_000)
    await produce(kafka, f"{prefix}in", rows, max_batch_size=400)
    await app.start()
    try:
        await until(lambda: read(wires) == 4_000)
    finally:
        await app.stop()
    assert 1 <= deepest <= 4
    await check_once(kafka, prefix, rows)


async def _out(kafka: str, prefix: str, expected: list[bytes]) -> bool:
    return (await read_all(kafka, f"{prefix}out", 2))[0] == expected
