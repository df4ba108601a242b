"""Neighbours: what one tenant's flood costs another's commands, and whether an urgent command overtakes a queue.

flood   One tenant sends at its quota, the other at 50 times as much, straight to Kafka, where no gateway holds it back. The
        quiet tenant's latency from event to command (an open model, as in `bench.latency`), alone and beside the flood.
urgent  100,000 digests wait for a connection that takes 100 a second. From writing an urgent command to its delivery: while
        the digests still stand in front of it in the log, and once all of them wait as rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer

from bench.kafka import Cluster
from bench.process import Child, wait_for
from bench.uptake import Deployment, a_rule
from schemas.commands import Command, Priority, Why, command_id
from schemas.definitions import Connection

QUOTA: Final = 1_000
"""Events a second of one tenant."""
TIMES: Final = 50
QUIET, LOUD = "quiet", "loud"
RARE: Final = "feature-rare"
QUIET_EVERY: Final = 20
"""One event in this many of the quiet tenant's matches the rule."""
PARTITIONS: Final = 4
DIGESTS: Final = 100_000
DELIVERED: Final = f"{QUIET}.delivered"
"""Of the topics that the tenant's connections may write to (setting `tenant_topics`)."""
WARM_S: Final = 5.0
_CLIENT: Final = {
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "linger.ms": 5,
    "batch.num.messages": 10_000,
    "queue.buffering.max.messages": 1_000_000,
}


def produce(address: str, topic: str, tenant: str, rate: int, every: int, seconds: float, start_s: float) -> None:
    """Sends the tenant's event i at start + i / rate; one in `every` matches the rule."""
    producer = Producer({"bootstrap.servers": address, **_CLIENT})
    total, sent = int(rate * seconds), 0
    while sent < total:
        due = min(total, int((time.time() - start_s) * rate))
        while sent < due:
            user = f"user-{sent * 7919 % 20_000:06d}"
            feature = RARE if sent % every == every // 2 else f"feature-{sent % 40:04d}"
            at = int((start_s + sent / rate) * 1000)
            row = (
                f'{{"id":"l{sent:010d}","tenant":"{tenant}","product":"app","type":"feature.used","feature":"{feature}",'
                f'"user":"{user}","occurred_at":{at},"platform":"web","country":"NL","build":"2026.11"}}'
            )
            producer.produce(topic, row.encode(), f"{tenant}|{user}".encode())
            sent += 1
        producer.poll(0)
        if sent >= due:
            time.sleep(0.001)
    if producer.flush(60):
        raise RuntimeError("events were not acknowledged")


@contextmanager
def _deployment(cluster: Cluster, data: Path, what: str) -> Iterator[Deployment]:
    prefix = f"uptake-bench-{what}-{time.time_ns() // 1_000_000 % 10**8}."
    home = data / prefix.strip(".")
    home.mkdir(parents=True)
    try:
        yield Deployment(cluster, prefix, home, PARTITIONS)
    finally:
        cluster.drop(prefix)
    shutil.rmtree(home)


def _from_now_on(cluster: Cluster, topic: str) -> Consumer:
    reader = cluster.tail([topic])
    while reader.poll(0.2) is not None:
        pass
    return reader


def flood(cluster: Cluster, data: Path, *, seconds: float, loud_every: int | None) -> dict[str, Any]:
    """The quiet tenant's latencies (ms). `loud_every`: one in so many of the loud tenant's events matches the rule, which has
    no ceiling; None: there is no loud tenant.
    """
    with _deployment(cluster, data, "flood") as deployment:
        deployment.prepare([a_rule("bench-rare", RARE)])
        with deployment.process("meter") as meter, deployment.process("decide") as decide:
            wait_for("METER ready", lambda: deployment.ready("meter"), meter, 60, 0.1)
            wait_for("DECIDE ready", lambda: deployment.ready("decide"), decide, 60, 0.1)
            reader = _from_now_on(cluster, deployment.settings.topic("commands.product"))
            start = time.time() + 2.0
            topic = deployment.settings.topic("events.usage")
            senders = [(QUIET, QUOTA, QUIET_EVERY)]
            if loud_every is not None:
                senders.append((LOUD, QUOTA * TIMES, loud_every))
            wanted = range(QUIET_EVERY // 2, int(QUOTA * seconds), QUIET_EVERY)
            with ExitStack() as stack:
                children = []
                for tenant, rate, every in senders:
                    given = (cluster.address, topic, tenant, rate, every, seconds, start)
                    command = [sys.executable, "-m", "bench.neighbours", *map(str, given)]
                    children.append(stack.enter_context(Child(command, deployment.data / f"{tenant}.log")))
                received, others = _commands(reader, len(wanted), start + seconds + 30)
                for child in children:
                    if child.wait(60):
                        raise RuntimeError(f"a producer failed: {child.last_words()}")
            reader.close()
    missing = [i for i in wanted if i not in received]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(wanted)} commands of the quiet tenant did not come")
    ms = [(received[i] - (start + i / QUOTA)) * 1000 for i in wanted if i >= QUOTA * WARM_S]
    return {"commands": len(ms), "loud_commands": others, **_figures(ms)}


def _commands(reader: Consumer, wanted: int, deadline: float) -> tuple[dict[int, float], int]:
    """When each of the quiet tenant's commands was readable, by its event's number; and how many others there were."""
    received: dict[int, float] = {}
    others = 0
    while len(received) < wanted and time.time() < deadline:
        for message in reader.consume(1, 0.05):
            now, value = time.time(), message.value()
            if message.error() is not None or value is None:
                continue
            command = json.loads(value)
            if command["tenant"] == QUIET:
                cause = command["cause"]
                place = cause.rindex("l0")
                received.setdefault(int(cause[place + 1 : place + 11]), now)
            else:
                others += 1
    return received, others


def urgent(cluster: Cluster, data: Path, *, digests: int, tries: int) -> dict[str, Any]:
    """Latencies (ms) of urgent commands, from writing to delivery, behind so many digests of low priority."""
    with _deployment(cluster, data, "urgent") as deployment:
        topic, out = (deployment.settings.topic(name) for name in ("commands.product", DELIVERED))
        connection = Connection(
            tenant=QUIET, name="slow", integration="kafka", config={"topic": DELIVERED}, enabled=True, rate_per_s=100.0
        )
        deployment.prepare([connection])
        cluster.create(out, PARTITIONS)
        with deployment.process("deliver") as deliver:
            wait_for("DELIVER ready", lambda: deployment.ready("deliver"), deliver, 60, 0.1)
            reader = _from_now_on(cluster, out)
            producer = Producer({"bootstrap.servers": cluster.address, **_CLIENT})
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
    return {"digests": digests, "waiting": int(waiting), "behind_in_the_log_ms": round(first, 1), **_figures(ms)}


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


def _figures(ms: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(ms, n=100, method="inclusive")
    return {
        "p50_ms": round(statistics.median(ms), 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(max(ms), 1),
    }


def measure(cluster: Cluster, data: Path, *, quick: bool) -> dict[str, Any]:
    """Both questions. A match of the loud tenant's in 1,000 is a product's usual share; one in 50 is a rule gone wild."""
    seconds = 12.0 if quick else 45.0
    answer: dict[str, Any] = {"quota": QUOTA, "times": TIMES, "seconds": seconds}
    flood(
        cluster, data, seconds=seconds / 2, loud_every=None
    )  # nobody looks: a broker's first seconds compile its code
    for name, every in (("alone", None), ("beside", 1_000), ("beside_wild", 50)):
        answer[name] = flood(cluster, data, seconds=seconds, loud_every=every)
        print(f"    {name}: {answer[name]}", flush=True)
    answer["urgent"] = urgent(cluster, data, digests=20_000 if quick else DIGESTS, tries=20 if quick else 100)
    print(f"    urgent: {answer['urgent']}", flush=True)
    return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("address", "topic", "tenant"):
        parser.add_argument(name)
    for name in ("rate", "every"):
        parser.add_argument(name, type=int)
    for name in ("seconds", "start"):
        parser.add_argument(name, type=float)
    given = parser.parse_args()
    produce(given.address, given.topic, given.tenant, given.rate, given.every, given.seconds, given.start)
