"""Kafka clients with our settings: where the cluster is, how to speak to it, and reading topics without a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.structs import OffsetAndMetadata
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from app.broker import Broker
from app.settings import Settings
from transport.doorstep import refusal
from transport.looking import look_at
from transport.options import Security

REQUEST_TIMEOUT_MS = 20_000
NEW_TOPIC_TRIES = 100


class NoKafka(RuntimeError):
    """There is no Kafka to talk to; the message names the next move."""


class MissingTopic(RuntimeError):
    """A topic does not exist; the message names the next move."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in a topic."""

    topic: str
    """Without the settings' prefix."""
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def managed_broker(settings: Settings) -> Broker:
    """The broker under the data directory."""
    return Broker(settings.data_dir / "kafka", jars=settings.data_dir / "jars", heap_mb=settings.broker_heap_mb)


def bootstrap(settings: Settings) -> str:
    """Where the cluster is. Raises `NoKafka` where none is set and none of ours runs."""
    if settings.kafka is not None:
        return settings.kafka
    status = managed_broker(settings).status()
    if not status.running or status.address is None:
        raise NoKafka("no Kafka: start one with `uptake broker start`, or name yours in UPTAKE_KAFKA=host:port")
    return status.address


def client(settings: Settings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes."""
    return {
        "bootstrap_servers": bootstrap(settings),
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        **security_of(settings).client(),
    }


def security_of(settings: Settings) -> Security:
    """The settings' security, as transport takes it. Raises `NoKafka` where a certificate's file cannot be read."""
    try:
        tls = settings.tls()
    except OSError as error:  # `ssl.SSLError` is one: a file that holds something else
        files = (settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file)
        named = ", ".join(str(f) for f in files if f is not None) or "the system's authorities"
        raise NoKafka(
            f"TLS files cannot be read ({error.strerror or type(error).__name__}) among {named}: UPTAKE_KAFKA_CA_FILE, "
            "…_CERT_FILE and …_KEY_FILE name PEM files that this user may read"
        ) from error
    password = settings.kafka_password
    return Security(
        protocol=settings.kafka_security,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=password.get_secret_value() if password is not None else None,
        ssl_context=tls,
    )


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises `NoKafka`."""
    options = client(settings)
    made = AIOKafkaAdminClient(**options)
    try:
        await made.start()
    except KafkaConnectionError as error:
        await made.close()
        raise await unreachable(settings) from error
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def producer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer that waits for all replicas; keys are placed by murmur2. Raises `NoKafka`."""
    common = client(settings)
    made = AIOKafkaProducer(
        **{"acks": "all", "enable_idempotence": True, "max_request_size": 4 << 20, **common, **options}
    )
    try:
        await made.start()
    except KafkaConnectionError as error:
        await made.stop()
        raise await unreachable(settings) from error
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def consumer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group that sees committed rows only. Raises `NoKafka`."""
    common = client(settings)
    made = AIOKafkaConsumer(
        **{
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 200,
            **common,
            **options,
        }
    )
    try:
        await made.start()
    except KafkaConnectionError as error:
        await made.stop()
        raise await unreachable(settings) from error
    try:
        yield made
    finally:
        await asyncio.sleep(0)  # one that is stopped before its own tasks have begun raises their cancellation
        await made.stop()


@retry(
    # A new cluster makes its offsets topic at the first question, and a coordinator that moved reads it anew.
    retry=retry_if_exception_type(
        (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
    ),
    wait=wait_random_exponential(multiplier=0.05, max=1.0),
    stop=stop_after_delay(30),
    reraise=True,
)
async def committed_of(settings: Settings, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """What a group has committed; empty for a group that never did. Raises `NoKafka`, `KafkaError`."""
    async with admin(settings) as made:
        found: dict[TopicPartition, OffsetAndMetadata] = await made.list_consumer_group_offsets(group)
    return found


async def unreachable(settings: Settings) -> NoKafka:
    """The error for a cluster that does not answer, or does not let us in: it says which."""
    address = bootstrap(settings)
    said = await refusal(address, security_of(settings))
    return NoKafka(
        said or f"Kafka does not answer at {address}: is it running (`uptake broker status`), is the address right?"
    )


async def partition_counts(settings: Settings, topics: Iterable[str]) -> dict[str, int]:
    """Partitions of each topic (full names); those that do not exist are missing. Raises `NoKafka`.

    A consumer cannot be asked: it knows only what it is assigned.
    """
    async with admin(settings) as made:
        there = set(await made.list_topics())
        wanted = [topic for topic in topics if topic in there]
        described = await made.describe_topics(wanted) if wanted else []
    return {topic["topic"]: len(topic["partitions"]) for topic in described}


async def partitions_of(settings: Settings, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of these topics (names without prefix). Raises `MissingTopic`, `NoKafka`."""
    counts = await partition_counts(settings, [settings.topic(topic) for topic in topics])
    found: list[TopicPartition] = []
    for topic in topics:
        full = settings.topic(topic)
        if full not in counts:
            raise MissingTopic(f"topic {full} does not exist: make the topics with `uptake topics create`")
        found += [TopicPartition(full, p) for p in range(counts[full])]
    return found


async def read(
    settings: Settings,
    topics: Sequence[str],
    *,
    follow: bool = False,
    from_end: bool = False,
    at_end: Callable[[], None] | None = None,
    heard: Callable[[int], None] | None = None,
) -> AsyncGenerator[Record, None]:
    """Every committed record of the topics, in offset order within a partition; ends at the end unless `follow`.

    `at_end` is called once, when everything that stood there at the start has been yielded. The end is found by
    position, not by the last record: control records and compaction leave offsets that nobody reads.
    `heard` is told, again and again, when the brokers answered last (milliseconds).
    Raises `NoKafka`, `MissingTopic`.
    """
    partitions = await partitions_of(settings, topics)
    async with consumer(settings) as made:
        made.assign(partitions)
        if from_end:
            await made.seek_to_end(*partitions)
        else:
            await made.seek_to_beginning(*partitions)
        ends = await made.end_offsets(partitions)
        waiting = set()
        for partition in partitions:
            if await made.position(partition) < ends[partition]:
                waiting.add(partition)
        told = False
        names = {partition.topic: settings.bare(partition.topic) for partition in partitions}
        while True:
            if not waiting and not told:
                told = True
                if at_end is not None:
                    at_end()
                if not follow:
                    return
            fetched = await made.getmany(timeout_ms=200)
            if heard is not None:
                heard(min(made.last_poll_timestamp(p) or 0 for p in partitions))
            for partition, rows in fetched.items():
                for row in rows:
                    if told or row.offset < ends[partition] or follow:
                        yield Record(
                            names[partition.topic],
                            partition.partition,
                            row.offset,
                            row.timestamp,
                            row.key,
                            row.value,
                            row.headers,
                        )
            for partition in list(waiting):
                if await made.position(partition) >= ends[partition]:
                    waiting.discard(partition)


async def ends_of(made: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Where these partitions end, as a consumer sees it that reads nothing else."""
    places = list(partitions)
    look_at(made, places)
    found: dict[TopicPartition, int] = await made.end_offsets(places) if places else {}
    return found


async def shown(settings: Settings, ends: Mapping[TopicPartition, int], *, within_s: float = 15.0) -> bool:
    """Waits until readers of committed rows see these partitions up to these ends; False when they did not within the time.

    Kafka answers a commit before every partition shows it: whoever reads at once what was just committed waits here first.
    """
    if not ends:
        return True
    async with consumer(settings) as made:
        look_at(made, ends)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            seen = await made.end_offsets(list(ends))
            if all(seen[partition] >= end for partition, end in ends.items()):
                return True
            if loop.time() > deadline:
                return False
            await asyncio.sleep(0.01)


async def settle(check: Callable[[], Any], *, within_s: float, every_s: float = 0.05) -> bool:
    """Waits until `check()` holds; False when it did not within the time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not check():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(every_s)
    return True


__all__ = [
    "KafkaError",
    "MissingTopic",
    "NoKafka",
    "Record",
    "admin",
    "bootstrap",
    "client",
    "consumer",
    "ends_of",
    "managed_broker",
    "partition_counts",
    "partitions_of",
    "producer",
    "read",
    "security_of",
    "settle",
    "shown",
    "unreachable",
]


async def acknowledged(sent: set[asyncio.Future[Any]], at_least: int) -> set[asyncio.Future[Any]]:
    """Waits until that many more sends are acknowledged and returns the others. Raises what a send raised."""
    while at_least > 0:
        done, sent = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
        at_least -= len(done)
    return sent
