"""Where tests get their Kafka, and how they leave it clean."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import socket
import subprocess
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.broker import Broker
from app.kafka import admin
from app.settings import Settings
from app.topics import led

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "apache/kafka:4.1.1"
PORTS = range(20_100, 32_000)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TestKafka:
    """A broker for tests, and where it came from."""

    __test__ = False

    address: str
    origin: str


@contextmanager
def provide(directory: Path, *, shared: bool = False) -> Iterator[TestKafka]:
    """A broker for the length of the block: an address from outside, a container, or our own from pip.

    `shared`: other processes use the one from pip too; it starts for the first of them, and goes on until `stop(directory)`.
    """
    given = os.environ.get("UPTAKE_TEST_KAFKA")
    if given:
        yield TestKafka(given, "UPTAKE_TEST_KAFKA")
        return
    if docker_answers():
        from testcontainers.kafka import KafkaContainer

        with KafkaContainer(IMAGE).with_kraft() as container:
            yield TestKafka(container.get_bootstrap_server(), "docker")
        return
    try:
        # The default port stays free for whoever runs `uptake up` meanwhile.
        yield TestKafka(_broker(directory).start(free_port()), "pip")
    finally:
        if not shared:
            stop(directory)


def stop(directory: Path) -> None:
    """Ends the broker from pip that `provide` started there, if one runs."""
    _broker(directory).stop()


def _broker(directory: Path) -> Broker:
    return Broker(directory / "broker", jars=ROOT / ".uptake" / "jars")


def docker_answers() -> bool:
    """Whether a Docker daemon is there (its client alone is not enough)."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def free_port() -> int:
    """A port that nobody listens on now, and that no outgoing connection is given: those get theirs from 32768 on.

    Drawn by the system's chance: Hypothesis seeds Python's, so the processes of a test run would draw the same.
    """
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def fresh_prefix(test: str) -> str:
    """`t-<test>-<random>.`, within Kafka's limits."""
    return f"t-{re.sub('[^A-Za-z0-9_-]', '-', test)[:40]}-{uuid.uuid4().hex[:8]}."


async def make_topic(settings: Settings, full: str, partitions: int = 1) -> None:
    """A topic of somebody else, by its full name. A broker knows it a moment after it answered "created": this waits for that."""
    async with admin(settings) as client:
        await client.create_topics([NewTopic(full, partitions, 1)])
    await led(settings, [full])


def delete_topics(kafka: str, prefix: str, *, gone: bool = False) -> None:
    """Deletes every topic that starts with `prefix`. A broker hears of it a moment after the answer; `gone` waits for that: who makes
    a topic of the same name at once would find the old one there.
    """

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            if mine := [t for t in await admin.list_topics() if t.startswith(prefix)]:
                await admin.delete_topics(mine)
                while gone and set(mine) & set(await admin.list_topics()):
                    await asyncio.sleep(0.05)
        finally:
            await admin.close()

    run_anywhere(delete())


def run_anywhere(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also where a loop is already running in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
