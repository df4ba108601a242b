"""Several processes, killed and restarted while rows come in: state is the fold of the log, every row comes out once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.transport.kit import counting_topics, read_all, until
from tests.transport.test_life import check_once

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4


class Workers:
    """Worker processes by name; each writes a log of its own."""

    def __init__(self, kafka: str, prefix: str, path: Path, **more: Any) -> None:
        self.given = {"bootstrap": kafka, "prefix": prefix, "partitions": PARTITIONS, **more}
        self.path = path
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.began: dict[str, int] = {}
        """How long a worker's log was when it was started last."""

    def start(self, name: str) -> None:
        given = self.given | {"data_dir": str(self.path / name), "instance_id": name}
        with (self.path / f"{name}.log").open("ab") as log:
            self.began[name] = log.tell()
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.transport.counting", json.dumps(given)],
                cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        # A Python that is still importing dies of the signal, which proves nothing.
        deadline = time.monotonic() + 60
        while b"started\n" not in (self.path / f"{name}.log").read_bytes()[self.began[name] :]:
            assert process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        return process.wait(90)

    def log(self) -> str:
        return "\n".join(file.read_text(errors="replace")[-3000:] for file in sorted(self.path.glob("*.log")))


@contextmanager
def workers(kafka: str, prefix: str, path: Path, **more: Any) -> Iterator[Workers]:
    crew = Workers(kafka, prefix, path, **more)
    try:
        yield crew
    finally:
        for name in list(crew.processes):
            crew.kill(name)


async def rows_out(kafka: str, prefix: str) -> int:
    return sum(len(values) for values in await read_all(kafka, f"{prefix}out", PARTITIONS))


class Feed:
    """Keeps producing numbered rows, some values again and again, until stopped."""

    def __init__(self, kafka: str, topic: str, seed: int) -> None:
        self.kafka, self.topic = kafka, topic
        self.rows: list[tuple[int, bytes]] = []
        self.random = random.Random(seed)
        self.going = True

    async def run(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, compression_type="lz4", linger_ms=2)
        await producer.start()
        try:
            while self.going:
                rows = [(self.random.randrange(PARTITIONS), b"v%d" % self.random.randrange(3000)) for _ in range(60)]
                self.rows += rows
                await asyncio.gather(
                    *[await producer.send(self.topic, value, key=b"k", partition=at) for at, value in rows]
                )
                await asyncio.sleep(0.02)
        finally:
            await producer.stop()


async def owners(kafka: str, prefix: str) -> dict[str, int]:
    """Partitions by member, as the broker sees the group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([f"{prefix}counter"])
        members = answer.groups[0][5]
        from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

        return {
            member[0]: sum(
                len(partitions) for _, partitions in ConsumerProtocolMemberAssignment.decode(member[-1]).assignment
            )
            for member in members
            if member[-1]
        }
    finally:
        await admin.close()


async def test_killed_and_restarted_while_rows_come_in(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, PARTITIONS)
    feed = Feed(kafka, f"{prefix}in", seed=1)
    producing = asyncio.ensure_future(feed.run())
    with workers(kafka, prefix, tmp_path, checkpoint_interval_ms=40) as crew:
        crew.start("one")
        crew.start("two")
        chance = random.Random(2)
        await until(lambda: _any_out(kafka, prefix))
        for _ in range(5):
            await asyncio.sleep(chance.uniform(0.3, 1.5))
            name = chance.choice(list(crew.processes))
            crew.kill(name)
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            crew.start(name)
        before = await rows_out(kafka, prefix)
        await until(lambda: _more_out(kafka, prefix, before))
        feed.going = False
        await producing
        await until(lambda: _all_out(kafka, prefix, len(feed.rows)))
        codes = [crew.stop(name) for name in list(crew.processes)]
        assert codes == [0, 0], crew.log()
    await check_once(kafka, prefix, feed.rows, PARTITIONS)


async def test_partitions_move_between_processes_without_loss(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, PARTITIONS)
    feed = Feed(kafka, f"{prefix}in", seed=3)
    producing = asyncio.ensure_future(feed.run())
    with workers(kafka, prefix, tmp_path) as crew:
        crew.start("one")
        await until(lambda: _owned(kafka, prefix, [4]))
        await until(lambda: _any_out(kafka, prefix))
        crew.start("two")
        await until(lambda: _owned(kafka, prefix, [2, 2]))
        before = await rows_out(kafka, prefix)
        await until(lambda: _more_out(kafka, prefix, before))
        assert crew.stop("one") == 0, crew.log()
        await until(
            lambda: _owned(kafka, prefix, [4]), 30
        )  # after its session ended: static members do not say goodbye
        feed.going = False
        await producing
        await until(lambda: _all_out(kafka, prefix, len(feed.rows)))
        assert crew.stop("two") == 0, crew.log()
    await check_once(kafka, prefix, feed.rows, PARTITIONS)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    offsets = await admin.list_consumer_group_offsets(f"{prefix}counter")
    await admin.close()
    assert sum(offsets[TopicPartition(f"{prefix}in", n)].offset for n in range(PARTITIONS)) == len(feed.rows)


async def test_a_process_that_slept_finds_its_partitions_gone(kafka: str, prefix: str, tmp_path: Path) -> None:
    """A zombie: stopped in the middle, its session ends, another takes over; when it wakes, nothing of it counts."""
    await counting_topics(kafka, prefix, PARTITIONS)
    feed = Feed(kafka, f"{prefix}in", seed=4)
    producing = asyncio.ensure_future(feed.run())
    with workers(kafka, prefix, tmp_path) as crew:
        crew.start("one")
        await until(lambda: _any_out(kafka, prefix))
        crew.processes["one"].send_signal(signal.SIGSTOP)
        crew.start("two")
        await until(lambda: _owned(kafka, prefix, [4]))
        before = await rows_out(kafka, prefix)
        await until(lambda: _more_out(kafka, prefix, before))
        crew.processes["one"].send_signal(signal.SIGCONT)
        await until(lambda: _owned(kafka, prefix, [2, 2]))
        before = await rows_out(kafka, prefix)
        await until(lambda: _more_out(kafka, prefix, before))
        feed.going = False
        await producing
        await until(lambda: _all_out(kafka, prefix, len(feed.rows)))
        assert [crew.stop("one"), crew.stop("two")] == [0, 0], crew.log()
    await check_once(kafka, prefix, feed.rows, PARTITIONS)


async def _any_out(kafka: str, prefix: str) -> bool:
    return await rows_out(kafka, prefix) > 0


async def _more_out(kafka: str, prefix: str, before: int) -> bool:
    return await rows_out(kafka, prefix) > before


async def _all_out(kafka: str, prefix: str, count: int) -> bool:
    return await rows_out(kafka, prefix) >= count


async def _owned(kafka: str, prefix: str, counts: list[int]) -> bool:
    return sorted((await owners(kafka, prefix)).values()) == counts
