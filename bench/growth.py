"""How METER's cost grows: with users, with features, and with the size of the stored batches that producers write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench.events import Shape
from bench.kafka import Cluster
from bench.machine import median
from bench.rounds import rounds
from bench.throughput import run_meter

RATE: Final = 33_333
"""Events to a second of event time."""
BATCH_BYTES = (2_000, 16_384, 131_072, 1_000_000)


def measure(cluster: Cluster, data: Path, *, quick: bool, runs: int, until: float) -> dict[str, Any]:
    """CPU seconds per million at 10 thousand and 1 million users, at 40 and 4,000 features; medians and ratios.

    Events are 33,333 to a second of event time: fewer, and what ends of windows cost (a figure a feature, however many events
    it had) stands for what an event costs. The first half of the rows tells what users cost while they are new, the second what many
    of them cost: there nine in ten events are of users who were seen before. A million users weigh half a gigabyte more: without
    `bench.memory`, what a virtual machine's host takes to hand that out would be counted as the process's own time.
    """
    rows = 600_000 if quick else 4_000_000
    base = Shape(rows=rows, seconds=rows // RATE)
    shapes = {
        "10k users": replace(base, users=10_000, zipf=0.6),
        "1M users": replace(base, users=1_000_000, zipf=0.6),
        "40 features": base,
        "4000 features": replace(base, features=4_000),
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for turn in rounds(runs, until):
        for name, shape in shapes.items():
            print(f"  round {turn + 1}/{runs}: {name}", flush=True)
            row = run_meter(cluster, shape, data, check=turn == 0 and not quick, halves=not quick)
            found.setdefault(name, []).append(row)
            print(f"    {row}", flush=True)
    part = "" if quick else "second"
    cpu = {
        name: median([run[part] if part else run for run in measured], "cpu_s_per_million")
        for name, measured in found.items()
    }
    new = {
        name: median([run["first"] for run in measured], "cpu_s_per_million")
        for name, measured in found.items()
        if part
    }
    return {
        "runs": found,
        "cpu_s_per_million": cpu,
        "cpu_s_per_million_new": new,
        "users_ratio": round(cpu["1M users"] / cpu["10k users"], 2),
        "features_ratio": round(cpu["4000 features"] / cpu["40 features"], 2),
    }


def batches(cluster: Cluster, data: Path, *, quick: bool) -> dict[str, Any]:
    """The same events in stored batches of several sizes: live traffic gives small ones."""
    shape = Shape(rows=500_000 if quick else 1_000_000)
    found = {}
    for size in BATCH_BYTES[1:3] if quick else BATCH_BYTES:
        print(f"  batches of at most {size} bytes", flush=True)
        found[str(size)] = run_meter(cluster, shape, data, batch_bytes=size, check=False)
        print(f"    {found[str(size)]}", flush=True)
    return {"batch_bytes": found}
