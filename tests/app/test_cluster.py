"""Three brokers from pip: what one of them keeps the others keep too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.broker import Cluster
from app.chaos.replicas import behind, in_sync
from app.settings import Settings
from tests.helpers.kafka import ROOT


@pytest.mark.timeout(200)
async def test_rows_outlive_a_killed_broker_which_comes_back(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", jars=ROOT / ".uptake" / "jars", heap_mb=256)
    try:
        address = await asyncio.to_thread(cluster.start)
        assert len(address.split(",")) == 3 and address == Cluster(tmp_path / "cluster").address
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 3, -1, replica_assignments={})])
        described = await admin.describe_topics(["kept"])
        await admin.close()
        assert all(len(p["replicas"]) == 3 for p in described[0]["partitions"])
        producer = AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True)
        await producer.start()
        for partition in range(3):
            await producer.send_and_wait("kept", b"before", partition=partition)
        assert await asyncio.to_thread(cluster.brokers[1].kill)
        assert not cluster.brokers[1].status().running
        for partition in range(3):
            await producer.send_and_wait("kept", b"while one is away", partition=partition)
        await producer.stop()
        settings = Settings(kafka=address)
        assert await behind(settings) and not await in_sync(settings, 0.5)
        await asyncio.to_thread(cluster.start_node, 1)
        assert await in_sync(settings, 60.0)
        assert all(broker.status().running for broker in cluster.brokers.values())
        consumer = AIOKafkaConsumer(bootstrap_servers=address)
        await consumer.start()
        consumer.assign([TopicPartition("kept", partition) for partition in range(3)])
        await consumer.seek_to_beginning()
        found = [await consumer.getone() for _ in range(6)]
        await consumer.stop()
        assert sorted(record.value for record in found) == [b"before"] * 3 + [b"while one is away"] * 3
    finally:
        await asyncio.to_thread(cluster.stop)
