"""From event to command: an open model at a paced rate. Every event has an intended moment of sending, fixed before the run;
latency counts from there, so a producer or system that falls behind is not forgiven."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from bench.events import PRODUCT, TENANT
from bench.kafka import Cluster
from bench.process import Child, wait_for
from bench.uptake import Deployment, a_rule

EVERY = 1_000
"""One event in this many matches the rule."""
RARE = "feature-rare"


def produce(address: str, topic: str, rate: int, seconds: float, start_s: float, users: int = 50_000) -> None:
    """Sends event i at start + i / rate, in steps of one millisecond, whatever happens."""
    producer = Producer(
        {
            "bootstrap.servers": address,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 2,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    total = int(rate * seconds)
    # Made beforehand: whoever is measured shares the machine with whoever measures.
    rows = [_row_at(i, start_s + i / rate, users) for i in range(total)]
    sent = 0
    while sent < total:
        due = max(sent, min(total, int((time.time() - start_s) * rate)))
        if due > sent and producer.produce_batch(topic, rows[sent:due]) != due - sent:
            raise RuntimeError("the producer's queue is full")
        sent = due
        producer.poll(0)
        time.sleep(0.001)
    if producer.flush(30):
        raise RuntimeError("events were not acknowledged")


def _row_at(number: int, at_s: float, users: int) -> dict[str, bytes]:
    """An event that is to be sent at this moment."""
    user = b"user-%06d" % (number * 7919 % users)
    feature = RARE.encode() if number % EVERY == EVERY // 2 else b"feature-%04d" % (number % 40)
    value = (
        b'{"id":"l%010d","tenant":"%b","product":"%b","type":"feature.used","feature":"%b","user":"%b","account":"account-%05d",'
        b'"occurred_at":%d,"session":"%010x","platform":"web","country":"NL","screen":"list","build":"2026.11"}'
        % (number, TENANT.encode(), PRODUCT.encode(), feature, user, number % 997, int(at_s * 1000), number * 2654435761 % 2**40)
    )  # fmt: skip
    return {"value": value, "key": TENANT.encode() + b"|" + user}


def measure(cluster: Cluster, data: Path, *, quick: bool) -> list[dict[str, Any]]:
    """Each rate on so many partitions, after a run that nobody looks at: a broker's first seconds compile its code."""
    seconds = 12.0 if quick else 45.0
    asked = ((50_000, 4),) if quick else ((50_000, 1), (50_000, 4), (10_000, 4))
    _one(cluster, data, rate=50_000, partitions=4, seconds=6.0 if quick else 30.0, warm_s=0)
    return [_one(cluster, data, rate=rate, partitions=partitions, seconds=seconds) for rate, partitions in asked]


def _one(
    cluster: Cluster, data: Path, *, rate: int, partitions: int, seconds: float, warm_s: float = 5.0
) -> dict[str, Any]:
    """Latencies (ms) of the commands whose events were intended after the warm-up."""
    prefix = f"uptake-bench-latency-{time.time_ns() // 1_000_000 % 10**8}."
    home = data / prefix.strip(".")
    home.mkdir(parents=True)
    deployment = Deployment(cluster, prefix, home, partitions)
    received: dict[int, float] = {}
    try:
        deployment.prepare([a_rule("bench-rare", RARE)])
        with deployment.process("meter") as meter, deployment.process("decide") as decide:
            wait_for("METER ready", lambda: deployment.ready("meter"), meter, 60, 0.1)
            wait_for("DECIDE ready", lambda: deployment.ready("decide"), decide, 60, 0.1)
            reader = cluster.tail([deployment.settings.topic("commands.product")])
            while reader.poll(0.2) is not None:
                pass
            start = time.time() + 3.0 + rate * seconds / 60_000  # rows are made in the meantime
            cpu = meter.cpu_s() + decide.cpu_s()
            topic = deployment.settings.topic("events.usage")
            command = [
                sys.executable, "-m", "bench.latency", cluster.address, topic, str(rate), str(seconds), str(start),
            ]  # fmt: skip
            expected = range(EVERY // 2, int(rate * seconds), EVERY)
            with Child(command, home / "producer.log") as producer:
                deadline = start + seconds + 20
                while len(received) < len(expected) and time.time() < deadline:
                    for message in reader.consume(1, 0.05):
                        now = time.time()
                        value = message.value()
                        if message.error() is None and value is not None:
                            received.setdefault(_row(json.loads(value)["cause"]), now)
                if producer.wait(30):
                    raise RuntimeError(f"the producer failed: {producer.last_words()}")
            used = meter.cpu_s() + decide.cpu_s() - cpu
            reader.close()
    finally:
        cluster.drop(prefix)
    missing = [i for i in expected if i not in received]
    if missing or len(received) != len(expected):
        raise RuntimeError(f"{len(missing)} of {len(expected)} commands did not come, {len(received)} came")
    warm = int(rate * warm_s)
    ms = sorted((received[i] - (start + i / rate)) * 1000 for i in expected if i >= warm)
    shutil.rmtree(home)
    cuts = statistics.quantiles(ms, n=1000, method="inclusive")
    return {
        "rate": rate,
        "partitions": partitions,
        "seconds": seconds,
        "commands": len(ms),
        "p50_ms": round(statistics.median(ms), 1),
        "p90_ms": round(cuts[899], 1),
        "p99_ms": round(cuts[989], 1),
        "max_ms": round(ms[-1], 1),
        "cores_used": round(used / (seconds + 2), 2),
    }


def _row(cause: str) -> int:
    """The event's number, from a cause that holds its id `l0000000500`."""
    place = cause.rindex("l0")
    return int(cause[place + 1 : place + 11])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("topic")
    parser.add_argument("rate", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("start", type=float)
    given = parser.parse_args()
    produce(given.address, given.topic, given.rate, given.seconds, given.start)
