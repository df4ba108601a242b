"""The broker, the topics and the loading of events, by librdkafka: no code that is measured takes part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.events import key_of
from bench.memory import Memory

MAX_MESSAGE = 2 * 1024 * 1024


@dataclass(frozen=True)
class Cluster:
    """A broker's address with the few things a bench asks of it."""

    address: str
    memory: Memory | None = None
    """What is held of it, so that nobody who is measured pays for the machine's finding it."""

    def in_hand(self) -> AbstractContextManager[None]:
        """Whoever is measured for what he costs is measured inside."""
        return nullcontext() if self.memory is None else self.memory.in_hand()

    def create(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """Makes a topic; one that is there already is an error, since its rows would be counted too."""
        settings = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE), **(config or {})}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=settings)
        admin = self.admin
        for future in admin.create_topics([new]).values():
            future.result(30)
        # Whoever asks at once may be told of a topic without leaders, which not every peer waits for.
        until = time.monotonic() + 30
        while not self._led(topic, partitions):
            if time.monotonic() > until:
                raise RuntimeError(f"{topic} has no leaders after 30 s")
            time.sleep(0.05)

    def _led(self, topic: str, partitions: int) -> bool:
        found = self.admin.list_topics(topic, timeout=30).topics[topic].partitions.values()
        return len(found) == partitions and all(p.leader >= 0 and p.error is None for p in found)

    def drop(self, prefix: str) -> None:
        """Deletes the topics and groups whose names begin so."""
        if len(prefix) < 6:
            raise ValueError(f"refusing to delete by the short prefix {prefix!r}")
        admin = self.admin
        topics = [t for t in admin.list_topics(timeout=30).topics if t.startswith(prefix)]
        if topics:
            for future in admin.delete_topics(topics, operation_timeout=30).values():
                future.result(60)
        groups = [g.group_id for g in admin.list_consumer_groups().result(30).valid if g.group_id.startswith(prefix)]
        if groups:
            for gone in admin.delete_consumer_groups(groups).values():
                # Static members (Uptake's) do not leave at once; their group expires by itself.
                with suppress(KafkaException):
                    gone.result(30)

    def ends(self, topic: str) -> dict[int, int]:
        """Partition → end offset."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "uptake-bench-ends"})
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in partitions}
        finally:
            consumer.close()

    def load(self, topic: str, path: Path, rows: int | None = None, batch_bytes: int = 262_144) -> int:
        """Writes a file's lines, keyed, lz4, in stored batches of at most about `batch_bytes`; gives the number of rows."""
        producer = Producer(
            {
                "bootstrap.servers": self.address,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "enable.idempotence": True,
                "linger.ms": 50,
                "batch.size": batch_bytes,
                "batch.num.messages": 100_000,
                "queue.buffering.max.messages": 500_000,
            }
        )
        written = 0
        with path.open("rb") as lines:
            for line in lines:
                if rows is not None and written >= rows:
                    break
                value = line.rstrip(b"\n")
                while True:
                    try:
                        producer.produce(topic, value, key_of(value))
                        break
                    except BufferError:
                        producer.poll(0.05)
                written += 1
                if written % 20_000 == 0:
                    producer.poll(0)
        left = producer.flush(120)
        if left:
            raise RuntimeError(f"{left} of {written} rows were not acknowledged")
        return written

    def records(self, topic: str, *, idle_s: float = 5.0) -> Iterator[tuple[int, bytes]]:
        """(partition, value) of every committed record up to the present end."""
        for message in self._messages(topic, idle_s):
            value, partition = message.value(), message.partition()
            if value is not None and partition is not None:
                yield partition, value

    def read_through(self, topic: str) -> None:
        """Reads a topic once: a system may have put away what its broker wrote a minute ago."""
        for _ in self._messages(topic, 60.0):
            pass

    def stamped(self, topic: str, *, idle_s: float = 5.0) -> Iterator[tuple[int, int, bytes]]:
        """(kind of timestamp, timestamp, value) of the same."""
        for message in self._messages(topic, idle_s):
            kind, at = message.timestamp()
            yield kind, at, message.value() or b""

    def _messages(self, topic: str, idle_s: float) -> Iterator[Message]:
        ends = self.ends(topic)
        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": f"uptake-bench-read-{time.monotonic_ns()}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        try:
            consumer.assign([TopicPartition(topic, p, 0) for p, end in ends.items() if end])
            waiting = {p for p, end in ends.items() if end}
            while waiting:
                message = consumer.poll(idle_s)
                if message is None:
                    raise RuntimeError(f"{topic}: no record for {idle_s} s, partitions {sorted(waiting)} unread")
                if message.error():
                    waiting.discard(message.partition())
                    continue
                yield message
        finally:
            consumer.close()

    def tail(self, topics: list[str]) -> Consumer:
        """A consumer that stands at the end of the topics and reads what is committed from now on, at once."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": f"uptake-bench-tail-{time.monotonic_ns()}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 5,
            }
        )
        known = consumer.list_topics(timeout=30).topics
        places = [TopicPartition(t, p, OFFSET_END) for t in topics for p in known[t].partitions]
        consumer.assign(places)
        return consumer

    @cached_property
    def admin(self) -> AdminClient:
        """One client, kept: a collected one cancels its requests."""
        return AdminClient({"bootstrap.servers": self.address})


def _shown(what: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {what}", flush=True)


@contextmanager
def cluster(address: str | None, data: Path) -> Iterator[Cluster]:
    """The cluster at `address`, or a broker of our own (real Apache Kafka from pip) for as long as this lasts."""
    if address:
        yield Cluster(address)
        return
    from app.broker import Broker

    # The quick start's jars, so that they are downloaded once.
    broker = Broker(data / "broker", jars=Path(__file__).parent.parent / ".uptake" / "jars", heap_mb=1024)
    started = broker.start(29092, _shown)
    try:
        yield Cluster(started)
    finally:
        broker.stop()
