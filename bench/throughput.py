"""METER with nothing switched off beside peers doing the smaller work W: same broker, same events, interleaved, checked by key."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import oracle
from bench.events import START_MS, Shape, ensure
from bench.kafka import Cluster
from bench.machine import median
from bench.peers.registry import PEERS, Job, Peer
from bench.process import Child
from bench.rounds import rounds
from bench.uptake import Deployment, a_rule, catch_up, figures_at

PARTITIONS = 4
PEER_WITHIN_S = 150.0
WIRE = {"rfc3339_share": 0.5, "duplicate_share": 0.05}
"""What real traffic adds: half of the times as text, a twentieth of the rows again."""


def _prefix(name: str) -> str:
    return f"uptake-bench-{name}-{time.time_ns() // 1_000_000 % 10**8}."


def run_peer(cluster: Cluster, peer: Peer, path: Path, rows: int, data: Path) -> dict[str, Any]:
    """One run of a peer on the first `rows` events; raises where its result is not the oracle's."""
    prefix = _prefix(peer.name)
    home = data / prefix.strip(".")
    (home / "state").mkdir(parents=True)
    cluster.create(f"{prefix}events", PARTITIONS)
    cluster.load(f"{prefix}events", path, rows)
    name = f"{prefix}{peer.name}"
    for topic in peer.own:
        cluster.create(f"{name}{topic}", PARTITIONS, {"cleanup.policy": "compact"})
    job = Job(cluster.address, f"{prefix}events", name, rows, PARTITIONS, home / "state", home / "result.json")
    try:
        with cluster.in_hand(), Child(peer.command(job, data / "kept"), home / "log") as child:
            code = child.wait(PEER_WITHIN_S)
        if not job.out.exists():
            raise RuntimeError(f"{peer.name} gave no result (exit code {code}): {child.last_words()}")
        result = json.loads(job.out.read_text())
    finally:
        cluster.drop(prefix)
    wrong = oracle.differences(result, path, rows)
    if wrong:
        raise RuntimeError(f"{peer.name} differs from the oracle in {len(wrong)} keys: {wrong[0]}")
    shutil.rmtree(home)
    return {
        "rows": rows,
        "events_s": round(rows / result["seconds"]),
        "cpu_s_per_million": round(result["cpu_s"] / rows * 1e6, 3),
        "peak_mb": child.peak_mb(),
        "keys_checked": len(result["groups"]) + len(result["users"]),
    }


def run_meter(
    cluster: Cluster, shape: Shape, data: Path, *, processes: int = 1, partitions: int = PARTITIONS, batch_bytes: int = 262_144,
    check: bool = True, halves: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One run of METER on the events of `shape`; raises where its registers are not the oracle's.

    `halves`: figures of the first half of the rows, and of the second, besides.
    """
    path = ensure(shape, data)
    prefix = _prefix("meter")
    home = data / prefix.strip(".")
    home.mkdir(parents=True)
    deployment = Deployment(cluster, prefix, home, partitions)
    try:
        deployment.prepare([a_rule(f"bench{i}", f"never-{i}") for i in range(10)])
        cluster.load(deployment.settings.topic("events.usage"), path, batch_bytes=batch_bytes)
        with cluster.in_hand():
            caught = catch_up(deployment, shape.rows, processes)
        checked = compare(deployment, path, shape) if check else 0
    finally:
        cluster.drop(prefix)
    shutil.rmtree(home)
    parts = {"first": caught.before(shape.rows // 2), "second": caught.after(shape.rows // 2)} if halves else {}
    return {**caught.figures(), "keys_checked": checked, **{name: part.figures() for name, part in parts.items()}}


def compare(deployment: Deployment, path: Path, shape: Shape) -> int:
    """Compares every (feature, end) of the 5-minute window that has certainly closed; gives how many there were."""
    last = START_MS + shape.seconds * 1000
    # The registers hold what closed by the last row's watermark (2 s of disorder, rows up to 0.5 s apart, and users in each
    # partition): ends of the last 30 s are left out.
    ends = range(START_MS + 60_000, last - 30_000, 60_000)
    got = figures_at(deployment, "5m")
    wanted = oracle.windows(path, 300_000, 10_000, ends)
    wrong = [
        f"{feature} at {end}: {got.get((feature, end))} instead of {figure}"
        for (feature, end), figure in wanted.items()
        if got.get((feature, end)) != figure
    ]
    wrong += [f"{key}: {got[key]} instead of nothing" for key in got if key[1] in ends and key not in wanted]
    if wrong or not wanted:
        raise RuntimeError(f"METER differs from the oracle in {len(wrong)} of {len(wanted)} keys: {wrong[:3]}")
    return len(wanted)


def measure(
    cluster: Cluster, data: Path, *, quick: bool, runs: int, until: float, only: frozenset[str]
) -> dict[str, Any]:
    """Interleaved rounds of METER and every peer; medians, and the ratio of CPU seconds of each peer to METER's."""
    base = Shape(rows=500_000 if quick else 2_000_000)
    peers_shape = Shape(rows=300_000 if quick else 1_000_000)
    peers_path = ensure(peers_shape, data)
    found: dict[str, list[dict[str, Any]]] = {}
    for turn in rounds(runs, until):
        for name in ("meter", *(p.name for p in PEERS), "meter_wire", "meter_two"):
            if (only and name not in only) or (quick and not only and name == "meter_two"):
                continue
            print(f"  round {turn + 1}/{runs}: {name}", flush=True)
            if name == "meter":
                row = run_meter(cluster, base, data)
            elif name == "meter_wire":
                row = run_meter(cluster, replace(base, **WIRE), data, check=turn == 0)  # type: ignore[arg-type]
            elif name == "meter_two":
                row = run_meter(cluster, base, data, processes=2, check=turn == 0)
            else:
                peer = next(p for p in PEERS if p.name == name)
                row = run_peer(cluster, peer, peers_path, peer.quick_rows if quick else peer.rows, data)
            print(f"    {row}", flush=True)
            found.setdefault(name, []).append(row)
    medians = {
        n: {k: median(rows, k) for k in ("events_s", "cpu_s_per_million", "peak_mb")} for n, rows in found.items()
    }
    ratios = {
        p.name: round(medians[p.name]["cpu_s_per_million"] / medians["meter"]["cpu_s_per_million"], 2)
        for p in PEERS
        if p.name in medians and "meter" in medians
    }
    return {"runs": found, "median": medians, "cpu_ratio_to_meter": ratios, "titles": {p.name: p.title for p in PEERS}}
