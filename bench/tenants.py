"""What the benches of two tenants share."""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer

from bench.kafka import Cluster
from bench.uptake import Deployment

QUIET: Final = "quiet"
LOUD: Final = "loud"
PARTITIONS: Final = 4
RARE: Final = "feature-rare"
"""Of the events that match the rule."""
CLIENT: Final = {
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "linger.ms": 5,
    "batch.num.messages": 10_000,
    "queue.buffering.max.messages": 1_000_000,
}
"""Of producers. They linger for as long as librdkafka does by default."""


@contextmanager
def deployed(cluster: Cluster, data: Path, what: str) -> Iterator[Deployment]:
    """Of its own prefix; its topics and files go with it."""
    prefix = f"uptake-bench-{what}-{time.time_ns() // 1_000_000 % 10**8}."
    home = data / prefix.strip(".")
    home.mkdir(parents=True)
    try:
        yield Deployment(cluster, prefix, home, PARTITIONS)
    finally:
        cluster.drop(prefix)
    shutil.rmtree(home)


def from_now_on(cluster: Cluster, topic: str) -> Consumer:
    """A consumer that stands at the end of the topic."""
    reader = cluster.tail([topic])
    while reader.poll(0.2) is not None:
        pass
    return reader


def figures(ms: Sequence[float]) -> dict[str, float]:
    """Percentiles, as kept in results."""
    cuts = statistics.quantiles(ms, n=100, method="inclusive")
    return {
        "p50_ms": round(statistics.median(ms), 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(max(ms), 1),
    }


def event_of(tenant: str, id_: str, n: int, every: int, at: int) -> tuple[str, str]:
    """(user, event) number `n` of a tenant, at a time in milliseconds; one in `every` is of the rare feature."""
    user = f"user-{n * 7919 % 20_000:06d}"
    feature = RARE if n % every == every // 2 else f"feature-{n % 40:04d}"
    return user, (
        f'{{"id":"{id_}","tenant":"{tenant}","product":"app","type":"feature.used","feature":"{feature}",'
        f'"user":"{user}","occurred_at":{at},"platform":"web","country":"NL","build":"2026.11"}}'
    )


def sender(*texts: str) -> argparse.Namespace:
    """The arguments of a process that sends: these, then rate, every, seconds and start."""
    parser = argparse.ArgumentParser()
    for name in texts:
        parser.add_argument(name)
    for name in ("rate", "every"):
        parser.add_argument(name, type=int)
    for name in ("seconds", "start"):
        parser.add_argument(name, type=float)
    return parser.parse_args()
