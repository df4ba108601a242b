"""What the benches of two tenants share."""

from __future__ import annotations

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
