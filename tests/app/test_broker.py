"""The broker from pip: starts, keeps its data over a restart, says what is wrong."""

from __future__ import annotations

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.broker import KAFKA, Broker, BrokerError, classpath
from app.broker.probe import answers
from app.broker.process import cache_of
from app.broker.warm import record
from tests.helpers.kafka import ROOT, free_port


def broker(directory: Path) -> Broker:
    return Broker(directory / "broker", jars=ROOT / ".uptake" / "jars", heap_mb=256)


async def test_data_survives_a_restart_and_start_is_idempotent(tmp_path: Path) -> None:
    one = broker(tmp_path)
    try:
        address = one.start(free_port())
        assert one.start() == address
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 1, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=address)
        await producer.start()
        await producer.send_and_wait("kept", b"value")
        await producer.stop()

        assert one.status().running
        assert one.stop()
        assert not one.stop()
        assert not answers(address)
        assert not one.status().running

        again = broker(tmp_path).start()
        assert again == address
        consumer = AIOKafkaConsumer(bootstrap_servers=again)
        await consumer.start()
        consumer.assign([TopicPartition("kept", 0)])
        await consumer.seek_to_beginning()
        assert (await consumer.getone()).value == b"value"
        await consumer.stop()
    finally:
        one.stop()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BrokerError, match="--port"):
            broker(tmp_path).start(taken.getsockname()[1])


def test_of_two_that_start_at_once_on_a_port_one_says_that_it_is_in_use(tmp_path: Path) -> None:
    two, port = [broker(tmp_path / name) for name in ("one", "other")], free_port()
    try:
        with ThreadPoolExecutor() as pool:
            started = [pool.submit(one.start, port) for one in two]
            refused = [future.exception() for future in started if future.exception() is not None]
        assert len(refused) == 1 and "--port" in str(refused[0])
        assert sorted(one.status().running for one in two) == [False, True]
    finally:
        for one in two:
            one.stop()


def test_a_broker_that_dies_says_why(tmp_path: Path) -> None:
    one = broker(tmp_path)
    try:
        one.start(free_port())
        one.stop()
        meta = one.directory / "data" / "meta.properties"
        meta.write_text("version=1\nnode.id=7\ncluster.id=other\n")
        with pytest.raises(BrokerError, match="log"):
            one.start()
    finally:
        one.stop()


def test_its_classes_come_from_what_was_learnt(tmp_path: Path) -> None:
    """`make` has it recorded while it installs; asked for again, it is there."""
    one = broker(tmp_path)
    path = classpath(KAFKA, one.jars)
    assert record(one.jars) == cache_of(one.jars, path)
    loaded = tmp_path / "loaded"
    java, *options = one.command(path)
    tool = ["kafka.tools.StorageTool", "random-uuid"]
    said = subprocess.run(
        [java, f"-Xlog:class+load:file={loaded}", *options, *tool], capture_output=True, text=True, check=True
    )
    assert len(said.stdout.split()) == 1 and "AOT" not in said.stderr, "nothing but the id that was asked for"
    sources = dict(
        line.split("] ", 1)[-1].split(" source: ") for line in loaded.read_text().splitlines() if " source: " in line
    )
    assert sources["org.apache.kafka.common.Uuid"].startswith("shared objects file")


def test_a_cache_that_is_spoilt_is_no_hindrance(tmp_path: Path) -> None:
    jars = tmp_path / "jars"
    jars.mkdir()
    for there in (ROOT / ".uptake" / "jars").iterdir():
        if there.is_dir():
            (jars / there.name).symlink_to(there.resolve())
    spoilt = cache_of(jars, classpath(KAFKA, jars))
    spoilt.write_bytes(b"not what a Java machine keeps")
    one = Broker(tmp_path / "broker", jars=jars, heap_mb=256)
    try:
        assert answers(one.start(free_port()))
    finally:
        one.stop()
