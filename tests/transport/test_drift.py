"""Fails when a piece of Faust or aiokafka that this room reaches into changes, or when the fast path is not the one in use.

A failure says which piece. Read its new source beside `transport/INTERNALS.md`, run this folder's tests, then write the
new digest down here: `python -m tests.transport.test_drift` prints them.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record import default_records, memory_records
from aiokafka.util import NO_EXTENSIONS

from tests.transport.kit import counting_topics, produce, read_all, until
from tests.transport.test_life import numbered, options, read, running
from transport import fetching
from transport.fetching import LINGER_BYTES, BlockConsumer, BlockFetcher, Fetching, PartitionBlocks, block_consumer

VERSIONS = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}
DIGESTS: dict[str, str] = {
    "aiokafka.conn:create_conn": "673276cbddb4dc7c",
    "aiokafka.consumer.fetcher:Fetcher.__init__": "bf21ecb7e0f210b7",
    "aiokafka.consumer.fetcher:Fetcher._proc_fetch_request": "59bf948fff47eed5",
    "aiokafka.consumer.fetcher:Fetcher.fetched_records": "be4348896b9b66af",
    "aiokafka.consumer.fetcher:Fetcher._get_actions_per_node": "1dab2cf937d165d0",
    "aiokafka.consumer.fetcher:Fetcher.seek_to": "f0ba6aba6c22ef83",
    "aiokafka.consumer.fetcher:FetchResult": "d7db13f06de8248c",
    "aiokafka.consumer.fetcher:PartitionRecords": "94aa0da0dbec8d1b",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.start": "2f1ba70443327538",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.seek": "a9430f1f3b9ac419",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.last_poll_timestamp": "da08643199629e28",
    "aiokafka.consumer.subscription_state:SubscriptionState.fetch_context": "ff2a654dca239cfe",
    "aiokafka.consumer.subscription_state:TopicPartitionState": "2b83334afadf6d98",
    "aiokafka.client:AIOKafkaClient.force_metadata_update": "cb7befef21c8f3f9",
    "aiokafka.client:AIOKafkaClient.fetch_all_metadata": "8eeea5926b0ddbe2",
    "aiokafka.producer.producer:AIOKafkaProducer.start": "bae900a5e83a6d97",
    "aiokafka.producer.producer:AIOKafkaProducer.stop": "43ef97147111893b",
    "aiokafka.producer.producer:AIOKafkaProducer.commit_transaction": "c7f9677c89413f97",
    "aiokafka.producer.producer:AIOKafkaProducer.send_offsets_to_transaction": "4b58002b44962a5c",
    "aiokafka.producer.sender:Sender._sender_routine": "2380dc5e333d9ebd",
    "aiokafka.producer.sender:Sender._maybe_wait_for_pid": "577189636b56f6d9",
    "aiokafka.coordinator.assignors.range:RangePartitionAssignor.assign": "3d310cce962966e1",
    "aiokafka.protocol.fetch:FetchResponse_v11": "66f6416366170bdb",
    "aiokafka.record.control_record:ControlRecord.parse": "643de4890a23c02b",
    "faust.transport.consumer:Consumer.__init__": "302410d59e6972d1",
    "faust.transport.consumer:Consumer._drain_messages": "44a2500309e83c63",
    "faust.transport.consumer:Consumer.getmany": "4b168d84882a70d6",
    "faust.transport.consumer:Consumer.on_partitions_revoked": "d04b7ae72c6fc206",
    "faust.transport.consumer:Consumer.on_partitions_assigned": "29ce96596f05a18c",
    "faust.transport.consumer:Consumer.wait_empty": "e4662fe24f094819",
    "faust.transport.consumer:Consumer.on_stop": "45b1d2210ce2b526",
    "faust.transport.consumer:Consumer.commit": "a354437baaa08bf8",
    "faust.transport.consumer:Consumer.perform_seek": "0e8c130ff4b0afd8",
    "faust.transport.consumer:Consumer._commit_livelock_detector": "af196ff46fd42a14",
    "faust.transport.consumer:Consumer.on_buffer_full": "c8961679e0bcdce5",
    "faust.transport.consumer:Consumer.on_buffer_drop": "4b57e8a418d5ad9c",
    "faust.transport.consumer:ThreadDelegateConsumer": "a1b934b198fae1c0",
    "faust.transport.drivers.aiokafka:ConsumerRebalanceListener": "f3d04f29dfb3f716",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_consumer": "a4dc6ba0681a298c",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer": "c2701bfc3e6f6cad",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records": "39a2c6c79fc1455a",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.getmany": "26fc5fc9f3b667e1",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.on_thread_stop": "8dfc004e258b6c25",
    "faust.app.base:App._new_transport": "42db531312dd776f",
    "faust.app.base:App._stop_consumer": "55854a5de12c3f52",
    "faust.app.base:App._on_partitions_revoked": "d5c895bbe57dc73a",
    "faust.app.base:App._on_partitions_assigned": "de932b7927db85b3",
    "faust.tables.manager:TableManager.on_start": "365dd25fbc0e0684",
    "faust.tables.manager:TableManager._update_channels": "88e3941facc934d6",
    "faust.tables.manager:TableManager.add": "4c5232ce6ba15f0a",
    "faust.tables.manager:TableManager.on_rebalance": "2d2c23a07bf54328",
    "faust.tables.recovery:Recovery.on_recovery_completed": "6ef567acf072e46d",
    "faust.tables.recovery:Recovery._resume_streams": "d986a6710c1aca98",
    "faust.tables.recovery:Recovery._restart_recovery": "6bd8a8558a2dffe4",
    "faust.serializers.schemas:Schema.compile": "d46eec5ce3195b2c",
    "faust.types.tuples:ConsumerMessage": "5edc45d571eb42a2",
    "faust/_cython/streams.pyx": "0041622f4a251188",
    "faust/transport/_cython/conductor.pyx": "dde1f974267881cf",
    "mode.threads:QueueServiceThread.call_thread": "479edda75b54734b",
}


def source(name: str) -> str:
    """Source of `module:attribute.path`, or of a file of a package (`faust/…​.pyx`)."""
    if name.endswith(".pyx"):
        package, _, rest = name.partition("/")
        return (Path(importlib.import_module(package).__file__ or "").parent / rest).read_text()
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    found = getattr(found, "fget", None) or getattr(found, "fun", None) or found  # properties, mode's service tasks
    return inspect.getsource(inspect.unwrap(found))


def digest(name: str) -> str:
    return hashlib.sha256(source(name).encode()).hexdigest()[:16]


def test_versions() -> None:
    assert {name: version(name) for name in VERSIONS} == VERSIONS


@pytest.mark.parametrize("name", DIGESTS)
def test_internals(name: str) -> None:
    assert digest(name) == DIGESTS[name], f"{name} has changed: see this file's first lines"


def test_internals_are_listed_where_people_look() -> None:
    listed = (Path(fetching.__file__).parent / "INTERNALS.md").read_text()
    missing = [name for name in DIGESTS if name.partition(":")[2].split(".")[-1].rpartition("/")[2] not in listed]
    assert len(DIGESTS) > 30 and not missing


def test_c_extensions_are_in_use() -> None:
    """aiokafka's own records in Python would make checksums and the slow twin a hundred times slower."""
    assert not NO_EXTENSIONS
    assert "_crecords" in default_records.DefaultRecordBatch.__module__
    assert "_crecords" in memory_records.MemoryRecords.__module__


@pytest.mark.kafka
async def test_fast_path_in_use_and_others_left_alone(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a running worker no record object of aiokafka comes into being; a plain consumer beside it has its own."""
    await counting_topics(kafka, prefix, 2)
    await produce(kafka, f"{prefix}in", numbered(1_000), compression_type="lz4")

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("the slow path was taken")

    async with running(options(kafka, prefix, tmp_path)) as wires:
        with monkeypatch.context() as patched:
            patched.setattr(fetching, "frame_records", forbidden)
            patched.setattr(fetcher.PartitionRecords, "_consumer_record", forbidden)
            await until(lambda: read(wires) == 1_000)
        inner: Any = wires._runs._thread._consumer
        assert type(inner) is BlockConsumer and type(inner._fetcher) is BlockFetcher
        assert inner.shared.stored > 0 and not inner.shared.records
        await until(lambda: _out(kafka, prefix, 1_000))


async def _out(kafka: str, prefix: str, rows: int) -> bool:
    """Read by a plain consumer in this very process, with record objects of its own."""
    return sum(len(values) for values in await read_all(kafka, f"{prefix}out", 2)) == rows


@pytest.mark.kafka
async def test_the_parser_is_exchanged_before_anybody_reads(kafka: str, prefix: str) -> None:
    await counting_topics(kafka, prefix, 2)
    await produce(kafka, f"{prefix}in", numbered(100))
    shared = Fetching(batch_rows=1_000, refetches=3, records=False)
    consumer = block_consumer(shared, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False)
    consumer.subscribe([f"{prefix}in"])
    await consumer.start()
    try:
        await until(lambda: len(consumer._fetcher._records) > 0)
        parsers = [result._partition_records for result in consumer._fetcher._records.values()]
        assert parsers and {type(parser) for parser in parsers} == {PartitionBlocks}
    finally:
        await consumer.stop()


@pytest.mark.kafka
async def test_only_a_fetch_that_leaves_nothing_out_is_held_long(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one partition are left unread: what is asked of its broker meanwhile must come back soon."""
    await counting_topics(kafka, prefix, 2)
    await produce(kafka, f"{prefix}in", [(0, b"row")])
    shared = Fetching(batch_rows=1_000, refetches=3, records=False, idle_wait_ms=300)
    consumer = block_consumer(
        shared, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=30
    )
    consumer.assign([TopicPartition(f"{prefix}in", 0), TopicPartition(f"{prefix}in", 1)])
    asked: list[tuple[int, int]] = []
    proceed = BlockFetcher._proc_fetch_request

    async def watched(self: Any, assignment: Any, node: Any, request: Any) -> Any:
        asked.append((sum(len(partitions) for _, partitions in request.topics), request._max_wait_ms))
        return await proceed(self, assignment, node, request)

    monkeypatch.setattr(BlockFetcher, "_proc_fetch_request", watched)
    await consumer.start()
    try:
        await until(lambda: any(count == 1 for count, _ in asked))
        assert set(asked) == {(2, 300), (1, 30)}
        await consumer.getmany(timeout_ms=1_000)
        before = len(asked)
        await until(lambda: (2, 300) in asked[before:])
    finally:
        await consumer.stop()


@pytest.mark.kafka
async def test_a_fetch_gathers_rows_while_rows_come(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one behind an answer with rows may be held until enough is there; a silence ends that."""
    await counting_topics(kafka, prefix, 1)
    await produce(kafka, f"{prefix}in", [(0, b"row")])
    shared = Fetching(batch_rows=1_000, refetches=3, records=False, idle_wait_ms=300, linger_ms=20)
    consumer = block_consumer(
        shared, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=30
    )
    consumer.assign([TopicPartition(f"{prefix}in", 0)])
    asked: list[tuple[int, int]] = []
    proceed = BlockFetcher._proc_fetch_request

    async def watched(self: Any, assignment: Any, node: Any, request: Any) -> Any:
        asked.append((request._min_bytes, request._max_wait_ms))
        return await proceed(self, assignment, node, request)

    monkeypatch.setattr(BlockFetcher, "_proc_fetch_request", watched)
    await consumer.start()
    try:
        await consumer.getmany(timeout_ms=5_000)
        await until(lambda: len(asked) >= 3)
        assert asked[:3] == [(1, 300), (LINGER_BYTES, 20), (1, 300)]
    finally:
        await consumer.stop()


if __name__ == "__main__":
    for one in DIGESTS:
        print(f'    "{one}": "{digest(one)}",')
