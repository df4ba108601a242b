"""`python -m app.broker.warm`: what the Java machine learns of Kafka, kept, so that a broker starts in half the time.

The machine's own ahead-of-time cache (JEP 483 and 515): classes read and linked, and which methods are called most. `make` has it
recorded once while it installs, from a broker that does a few seconds of Uptake's work. A broker without one starts as before.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from app.broker.jars import KAFKA, JarsUnavailable, Progress, classpath, quiet
from app.broker.process import Broker, BrokerError, cache_of

PARTITIONS: Final = 4
TRANSACTIONS: Final = 50
"""Of each partition; a method counts as one that is called much from some hundreds of calls."""
ROWS: Final = 20
TOPIC: Final = "learnt"


def record(jars: Path, progress: Progress = quiet) -> Path | None:
    """The cache of the broker whose jars lie in `jars`, recorded unless it is there; None where it cannot be used here.

    Raises `JarsUnavailable`, `BrokerError`, or what Kafka raises.
    """
    path = classpath(KAFKA, jars, progress)
    kept = cache_of(jars, path)
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(prefix="uptake-broker-") as scratch:
        fresh = kept.parent / f"{kept.name}.{Path(scratch).name}"
        broker = Broker(Path(scratch), jars=jars, record=fresh)
        try:
            address = broker.start(0, progress)
            try:
                progress("letting it work", 0, 0)
                asyncio.run(_work(address))
            finally:
                progress("keeping what was learnt", 0, 0)
                broker.stop()
            if not _usable(fresh, path):
                return None
            fresh.rename(kept)
        finally:
            fresh.unlink(missing_ok=True)
    return kept


async def _work(address: str) -> None:
    """What Uptake asks of a broker: transactions with offsets from several senders, and readers of what is committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)], timeout_ms=30_000)
    finally:
        await admin.close()
    await asyncio.gather(_read(address), *(_send(address, p) for p in range(PARTITIONS)))


async def _send(address: str, partition: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, transactional_id=f"{TOPIC}-{partition}") as producer:
        for n in range(TRANSACTIONS):
            async with producer.transaction():
                sent = [
                    await producer.send(TOPIC, b"%d %d" % (n, row), key=b"k%d" % row, partition=partition)
                    for row in range(ROWS)
                ]
                await asyncio.gather(*sent)
                await producer.send_offsets_to_transaction({TopicPartition(TOPIC, partition): n + 1}, TOPIC)


async def _read(address: str) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with consumer:
        consumer.assign([TopicPartition(TOPIC, p) for p in range(PARTITIONS)])
        left = PARTITIONS * TRANSACTIONS * ROWS
        while left > 0:
            left -= sum(map(len, (await consumer.getmany(timeout_ms=1_000)).values()))


def _usable(cache: Path, path: str) -> bool:
    """A machine that cannot take its cache may refuse to start (one that is spoilt it leaves alone): better asked once, here."""
    if not cache.exists():
        return False
    command = Broker(cache.parent, jars=cache.parent).command(path, [f"-XX:AOTCache={cache}"])
    asked = [*command, "kafka.tools.StorageTool", "random-uuid"]
    return subprocess.run(asked, capture_output=True).returncode == 0  # noqa: S603


def main() -> None:
    """Records it, or says in one line why not: a broker does without."""
    from rich.console import Console

    from app import logs
    from app.settings import Settings

    logs.quiet()
    console = Console(stderr=True)
    settings = Settings()
    if settings.kafka is not None:
        return
    began = time.monotonic()
    with console.status("preparing the broker's fast start") as status:
        try:
            kept = record(settings.data_dir / "jars", lambda what, *_: status.update(f"preparing the broker: {what}"))
        except (JarsUnavailable, BrokerError, KafkaError, OSError) as error:
            console.print(f"no fast start for the broker, it starts without: {error}")
            return
    took = time.monotonic() - began
    console.print(
        f"prepared the broker's fast start in {took:.0f} s" if kept else "this Java cannot keep what it learns"
    )


if __name__ == "__main__":
    main()
