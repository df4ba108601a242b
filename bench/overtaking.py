"""Whether an urgent command overtakes a queue of digests, and how long it takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer

from bench.kafka import Cluster
from bench.process import wait_for
from bench.tenants import CLIENT, PARTITIONS, QUIET, deployed, figures, from_now_on
from schemas.commands import Command, Priority, Why, command_id
from schemas.definitions import Connection

DELIVERED: Final = f"{QUIET}.delivered"
"""Of the topics that the tenant's connections may write to (setting `tenant_topics`)."""


def urgent(cluster: Cluster, data: Path, *, digests: int, tries: int) -> dict[str, Any]:
    """Latencies (ms) of urgent commands, from writing to delivery, behind so many digests of low priority."""
    with deployed(cluster, data, "urgent") as deployment:
        topic, out = (deployment.settings.topic(name) for name in ("commands.product", DELIVERED))
        connection = Connection(
            tenant=QUIET, name="slow", integration="kafka", config={"topic": DELIVERED}, enabled=True, rate_per_s=100.0
        )
        deployment.prepare([connection])
        cluster.create(out, PARTITIONS)
        with deployment.process("deliver") as deliver:
            wait_for("DELIVER ready", lambda: deployment.ready("deliver"), deliver, 60, 0.1)
            reader = from_now_on(cluster, out)
            producer = Producer({"bootstrap.servers": cluster.address, **CLIENT})
            for n in range(digests):
                _write(producer, topic, n, "low")
                producer.poll(0)
            producer.flush(60)
            first = _urgent(producer, topic, reader, digests)

            def queued() -> bool:
                return deployment.metric("deliver", "uptake_parked") >= 0.9 * digests

            wait_for("the digests wait", queued, deliver, 240, 0.25)
            waiting = deployment.metric("deliver", "uptake_parked")
            ms = [_urgent(producer, topic, reader, digests + 1 + n) for n in range(tries)]
            reader.close()
    return {"digests": digests, "waiting": int(waiting), "behind_in_the_log_ms": round(first, 1), **figures(ms)}


def _write(producer: Producer, topic: str, n: int, priority: Priority) -> str:
    now = time.time_ns() // 1_000_000
    why = Why(rule="bench", rule_version=1, reason="bench", detection=None, numbers={}, thresholds={}, links={})
    command = Command(
        id=command_id(QUIET, "bench", f"user:{n}", str(n)),
        tenant=QUIET,
        product="app",
        type="product.bench.note",
        subject=f"user:{n}",
        rule="bench",
        rule_version=1,
        cause=str(n),
        priority=priority,
        issued_at=now,
        expires_at=now + 86_400_000,
        title="Bench",
        text=f"Number {n}.",
        payload={},
        why=why,
    )
    producer.produce(topic, command.model_dump_json().encode(), f"{QUIET}|user:{n}".encode())
    return command.id


def _urgent(producer: Producer, topic: str, reader: Consumer, n: int) -> float:
    """Milliseconds until this urgent command is delivered."""
    began = time.time()
    wanted = _write(producer, topic, n, "urgent").encode()
    producer.flush(10)
    while time.time() < began + 120:
        for message in reader.consume(100, 0.01):
            if message.error() is None and wanted in (message.value() or b""):
                return (time.time() - began) * 1000
    raise RuntimeError("an urgent command was not delivered within two minutes")
