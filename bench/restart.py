"""The state of docs/architecture.md's size on a real Kafka: what it weighs in worker processes, and how long recovery takes.

The state of one partition is folded beforehand (`bench.state`) and written to each partition of the state topic as a checkpoint writes
it (other users with the same habits: folding them too would take minutes and tell nothing more); then METER starts on it.
Recovery is from the first fetch of a state to ready. The memory is in hand (`bench.memory`): on a virtual machine the host may take
longer to find it than recovery takes, and its figure stands beside.
The state topic is in the broker's memory, as where a worker alone has ended: recovery is measured, not a disk.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
from confluent_kafka import Producer

from bench.kafka import Cluster
from bench.memory import Memory
from bench.process import Child, wait_for
from bench.uptake import Deployment
from transport.phases import Phase, PhaseReader
from transport.state import Positions, positions_key

PARTITIONS = 4
_Figures = dict[str, Any]


def measure(cluster: Cluster, data: Path, *, quick: bool) -> _Figures:
    """Figures of one state: memory above an empty worker's, bytes, seconds of recovery in one process and in two."""
    users = 50_000 if quick else 1_000_000
    state = _built(data, users // PARTITIONS, 400 if quick else 4_000)
    total = {name: PARTITIONS * value for name, value in json.loads(state.with_suffix(".json").read_text()).items()}
    prefix = f"uptake-bench-restart-{time.time_ns() // 1_000_000 % 10**8}."
    home = data / prefix.strip(".")
    home.mkdir(parents=True)
    deployment = Deployment(cluster, prefix, home, PARTITIONS)
    try:
        deployment.prepare([])
        empty = _start(deployment, 1, 0)
        for partition in range(PARTITIONS):
            _load(cluster, deployment, partition, state)
        one = _recovered(cluster, deployment, 1, users)
        two = _recovered(cluster, deployment, 2, users)
    finally:
        cluster.drop(prefix)
    shutil.rmtree(home)
    own = total["pairs_bytes"] - 8 * total["pair_days"]
    return {
        "figures": [
            ["users, 5 events a day each, 28 days", users, ""],
            ["existing (feature, user) pairs, the product's own among them", total["pairs"], ""],
            ["(feature, user, day)", total["pair_days"], ""],
            ["state topic", round(total["state_bytes"] / 1e6), "MB"],
            ["a pair, less 8 B a day on which it was used", round(own / total["pairs"], 1), "B"],
            ["resident above an empty worker's, in all", round((one.resident - empty.resident) / 2**20), "MB"],
            ["peak of the process", one.peak_mb, "MB"],
            ["recovery of all of it, one process", round(one.recovery_s, 1), "s"],
            ["recovery of all of it, two processes", round(two.recovery_s, 1), "s"],
            ["from the start of that process to ready", round(one.start_s, 1), "s"],
            ["from the start of a process without state to ready", round(empty.start_s, 1), "s"],
            *_found(cluster.memory, one.peak_mb),
        ]
    }


def _built(data: Path, users: int, features: int) -> Path:
    """The records of one partition, made once."""
    path = data / f"state-{users}-{features}-0.bin"
    if not path.exists():
        print("  folding the state of one partition", flush=True)
        options = ["--users", str(users), "--features", str(features), "--out", str(path)]
        child = subprocess.Popen([sys.executable, "-m", "bench.state", *options])
        try:
            if child.wait():
                raise RuntimeError("the state could not be folded")
        finally:
            child.kill()  # it would go on for minutes where this ends early
            child.wait()
    return path


def _load(cluster: Cluster, deployment: Deployment, partition: int, path: Path) -> None:
    topic = deployment.settings.topic("state.meter")
    producer = Producer(
        {"bootstrap.servers": cluster.address, "compression.type": "snappy", "queue.buffering.max.kbytes": 256_000}
    )

    def send(key: bytes, value: bytes) -> None:
        while True:
            try:
                producer.produce(topic, value, key, partition)
                return
            except BufferError:
                producer.poll(0.1)

    decode = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode
    with path.open("rb") as records:
        while length := records.read(4):
            send(*decode(records.read(int.from_bytes(length, "big"))))
            producer.poll(0)
    start = {"events.usage": 0, "events.performance": 0}
    positions = Positions(partitions=PARTITIONS, next=start, at=time.time_ns() // 1_000_000)
    send(positions_key("events"), msgspec.json.encode(positions))
    if producer.flush(120):
        raise RuntimeError("the state was not acknowledged")


class _Start(NamedTuple):
    start_s: float
    """From the start of the processes to ready."""
    recovery_s: float
    """From the first moment at which a partition was seen to read its state."""
    resident: int
    peak_mb: int


def _recovered(cluster: Cluster, deployment: Deployment, processes: int, users: int) -> _Start:
    cluster.read_through(deployment.settings.topic("state.meter"))
    with cluster.in_hand():
        return _start(deployment, processes, users)


def _found(memory: Memory | None, peak_mb: int) -> list[list[Any]]:
    if memory is None:
        return []
    title = "this machine finds as much memory as that process had, where nobody had it before"
    return [[title, round(memory.new_s_gb * peak_mb / 1_024, 1), "s"]]


def _start(deployment: Deployment, processes: int, users: int) -> _Start:
    """METER in so many processes; they must know `users`."""
    phases = [deployment.settings.run_dir / "phases" / f"meter-{slot}" for slot in range(processes)]
    for slot in range(processes):
        (deployment.settings.run_dir / "targets" / f"meter-{slot}.json").unlink(missing_ok=True)
        phases[slot].unlink(missing_ok=True)
    began = time.monotonic()
    loading: list[float] = []
    with ExitStack() as stack:
        children: list[Child] = [stack.enter_context(deployment.process("meter", slot)) for slot in range(processes)]

        def known() -> bool:
            if not all(deployment.ready("meter", slot) for slot in range(processes)):
                return False
            return sum(deployment.metric("meter", "uptake_users", slot) for slot in range(processes)) >= users

        def ready() -> bool:
            if not loading and any(_loading(path) for path in phases):
                loading.append(time.monotonic())
            return all(deployment.ready("meter", slot) for slot in range(processes))

        wait_for("METER recovered", ready, children[0], 120, 0.02)
        ended = time.monotonic()
        wait_for(f"{users} users", known, children[0], 60, 0.2)
        resident = sum(psutil.Process(child.pid).memory_info().rss for child in children)
        peak = sum(child.peak_mb() for child in children)
        return _Start(ended - began, ended - min(loading, default=ended), resident, peak)


def _loading(phases: Path) -> bool:
    try:
        return any(p >= Phase.LOADING for label, p in PhaseReader(phases).now().items() if "|events|" in label)
    except OSError:
        return False
