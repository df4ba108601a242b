"""A large state on a real Kafka: what it weighs in a worker process, and how long a successor needs after kill -9."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from bench.events import Shape, ensure
from bench.kafka import Cluster
from bench.process import Child, wait_for
from bench.uptake import Deployment

DAY_S = 86_400
PARTITIONS = 4


def measure(cluster: Cluster, data: Path, *, quick: bool) -> dict[str, Any]:
    """Figures of one state: users, (feature, user) pairs, 28 days; memory above an empty worker's; seconds of recovery."""
    shape = Shape(
        rows=300_000 if quick else 4_000_000,
        users=50_000 if quick else 1_000_000,
        features=400 if quick else 4_000,
        seconds=28 * DAY_S,
        zipf=0.3,
    )
    path = ensure(shape, data)
    frame = pl.scan_ndjson(path).select("feature", "user")
    users, pairs = (
        frame.select(pl.col("user").n_unique(), pl.struct("feature", "user").n_unique().alias("pairs")).collect().row(0)
    )
    prefix = f"uptake-bench-restart-{time.time_ns() // 1_000_000 % 10**8}."
    home = data / prefix.strip(".")
    home.mkdir(parents=True)
    deployment = Deployment(cluster, prefix, home, PARTITIONS)
    topic = deployment.settings.topic("events.usage")
    try:
        deployment.prepare([])
        with deployment.process("meter") as child:
            wait_for("METER ready", lambda: deployment.ready("meter"), child, 60, 0.1)
            empty = _resident(child)
            cluster.load(topic, path)
            wait_for(
                "METER done", lambda: deployment.metric("meter", "uptake_rows_total") >= shape.rows, child, 600, 0.5
            )
            time.sleep(3)  # the snapshot pages and clocks that follow the last row
            full, peak = _resident(child), child.peak_mb()
            knew = deployment.metric("meter", "uptake_users")
            psutil.Process(child.pid).kill()
            child.wait(20)
        # Announced by the dead one; its successor announces itself anew.
        (deployment.settings.run_dir / "targets" / "meter-0.json").unlink(missing_ok=True)
        began = time.monotonic()
        with deployment.process("meter") as child:
            wait_for("METER recovered", lambda: deployment.ready("meter"), child, 120, 0.02)
            ready = time.monotonic() - began
            spent = deployment.metric("meter", "uptake_recovery_seconds_sum")
            recovered = deployment.metric("meter", "uptake_recovery_seconds_count")
            slowest = spent / max(1.0, recovered)
            wait_for(
                f"all {knew:.0f} users", lambda: deployment.metric("meter", "uptake_users") >= knew, child, 30, 0.2
            )
            known = int(deployment.metric("meter", "uptake_users"))
            after = _resident(child)
    finally:
        cluster.drop(prefix)
    shutil.rmtree(home)
    return {
        "figures": [
            ["users", users, ""],
            ["users known after recovery", known, ""],
            ["(feature, user) pairs", pairs, ""],
            ["events", shape.rows, "over 28 days"],
            ["resident memory above an empty worker's", round((full - empty) / 2**20), "MB"],
            ["the same, a user", round((full - empty) / users), "B"],
            ["peak", peak, "MB"],
            ["the same after recovery", round((after - empty) / 2**20), "MB"],
            ["recovery of a partition, first fetch to ready, mean", round(slowest, 2), "s"],
            ["recovery of all partitions, one after the other", round(spent, 2), "s"],
            ["from the start of the process to ready, Python's start included", round(ready, 2), "s"],
        ]
    }


def _resident(child: Child) -> int:
    return int(psutil.Process(child.pid).memory_info().rss)
