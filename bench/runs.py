"""Workflows at scale: steps a second, and a million parked runs on a real Kafka.

A step is a node that a run enters. *Parked*: a million waiting runs are written as checkpoints write them; ORCHESTRATE, one process,
recovers them, is killed with `kill -9`, and recovers again; then ten thousand of them come due within one minute. A timer's error is
the broker's time of its command less its due time. The product declares a disorder of 100 ms; METER's clocks, which timers follow,
are held back by it (by default 2 s, which then is part of every timer's error).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer

from bench import parked
from bench.hotpath import Keys
from bench.kafka import Cluster
from bench.process import Child, wait_for
from bench.uptake import Deployment
from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Emit
from core.workflows.jobs import Record
from core.workflows.task import REGISTERS, SIGNALS, RunsTask
from schemas.registers import Clock, Signal, encode
from transport.state import Positions, positions_key

PARTITIONS = 4
TOPICS = ("signals", "detections", "receipts", "meter.registers")
_Figures = dict[str, Any]
_record = msgspec.json.Decoder(Record).decode


def signals(numbers: range, at: int) -> Iterator[tuple[str, bytes]]:
    """(subject, value) of the triggers of these runs."""
    for number in numbers:
        data = parked.event(number, at)
        subject = f"user:{data['user']}"
        made = Signal(
            tenant=parked.TENANT,
            product=parked.PRODUCT,
            subject=subject,
            kind="event",
            cause=str(data["id"]),
            rules=[],
            workflows=[parked.NAME],
            topic="events.usage",
            at=at,
            data=data,
        )
        yield subject, msgspec.json.encode(made)


def steps(runs: int) -> _Figures:
    """CPU of the task alone: runs begin, and their timers end them; checkpoints are drained, nothing is written."""
    catalogue = Catalogue()
    catalogue.put(parked.workflow())
    task = RunsTask(0, 1, catalogue)
    at = 1_767_603_600_000
    values: list[bytes | None] = [value for _, value in signals(range(runs), at)]
    histories: list[bytes] = []
    began = time.process_time()
    for start in range(0, runs, 1_000):
        part = values[start : start + 1_000]
        n = len(part)
        effects = list(task.step(Batch(SIGNALS, 0, part, np.arange(n), np.full(n, at), start + n, Keys())))
        histories += [e.value or b"" for e in effects if isinstance(e, Emit) and e.topic == "runs"]
        task.drain()
    now = at + 31 * parked.DAY_MS
    clocks = [
        encode(Clock(source=s, partition=0, at=now, replaying=False)) for s in ("events.usage", "events.performance")
    ]
    list(task.step(Batch(REGISTERS, 0, [*clocks], np.arange(2), np.full(2, now), 2, Keys())))
    while len(task.desk):
        now += 300
        effects = list(task.tick(now, [(SIGNALS, 0)]))
        histories += [e.value or b"" for e in effects if isinstance(e, Emit) and e.topic == "runs"]
        task.drain()
    took = time.process_time() - began
    entered = sum(note.what == "entered" for value in histories for note in _record(value).notes)
    return {
        "runs": runs,
        "jobs": len(histories),
        "steps": entered,
        "steps_s": round(entered / took),
        "us_a_step": round(took / entered * 1e6, 1),
    }


class Home:
    """A deployment whose ORCHESTRATE holds the bench's workflow."""

    def __init__(self, cluster: Cluster, data: Path, name: str) -> None:
        self.cluster = cluster
        self.prefix = f"uptake-bench-{name}-{time.time_ns() // 1_000_000 % 10**8}."
        self.data = data / self.prefix.strip(".")
        self.data.mkdir(parents=True)
        self.deployment = Deployment(cluster, self.prefix, self.data, PARTITIONS)
        self.deployment.prepare([parked.product(), parked.workflow()])

    def producer(self) -> Producer:
        """To write its topics with."""
        return Producer(
            {
                "bootstrap.servers": self.cluster.address,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 20,
                "log_level": 2,  # the broker ends before it does
                "queue.buffering.max.kbytes": 256_000,
            }
        )

    def ready(self, role: Any, child: Child, seconds: float = 120) -> None:
        """Waits until the role says so."""
        wait_for(f"{role} ready", lambda: self.deployment.ready(role), child, seconds, 0.05)

    def metric(self, name: str) -> float:
        """Of ORCHESTRATE; 0 while it exports nothing."""
        try:
            return self.deployment.metric("orchestrate", name)
        except OSError:
            return 0.0

    def over(self) -> None:
        """Drops its topics and files."""
        self.cluster.drop(self.prefix)
        shutil.rmtree(self.data)


def live(cluster: Cluster, data: Path, runs: int) -> _Figures:
    """ORCHESTRATE catches up with so many triggers on Kafka: steps a second between two commits, from outside."""
    home = Home(cluster, data, "steps")
    try:
        producer, topic = home.producer(), home.deployment.settings.topic("signals")
        for subject, value in signals(range(runs), time.time_ns() // 1_000_000):
            _send(producer, topic, f"{parked.TENANT}|{subject}".encode(), value)
        if producer.flush(120):
            raise RuntimeError("the signals were not acknowledged")
        seen: list[tuple[float, float, float]] = []
        with home.deployment.process("orchestrate") as child:

            def look() -> bool:
                jobs = home.metric("uptake_run_jobs_total")
                if jobs and (not seen or jobs > seen[-1][1]):
                    seen.append((time.perf_counter(), jobs, child.cpu_s()))
                return jobs >= runs

            wait_for(f"{runs} runs", look, child, 300, every=0.1)
            peak = child.peak_mb()
    finally:
        home.over()
    if len(seen) < 3:
        raise RuntimeError(f"{runs} runs were seen at {len(seen)} moments only: too few to measure by")
    (began, first, cpu), (ended, last, used) = seen[0], seen[-1]
    # A trigger makes its run enter one node, and wait there.
    done = last - first
    return {
        "runs": int(done),
        "steps_s": round(done / (ended - began)),
        "cpu_us_a_step": round((used - cpu) / done * 1e6, 1),
        "peak_mb": peak,
    }


def restored(cluster: Cluster, data: Path, *, count: int, due: int, lead_s: float) -> _Figures:
    """`count` parked runs; kill -9; recovery; `due` of them within one minute, which begins `lead_s` after they were written."""
    home = Home(cluster, data, "parked")
    try:
        return _restored(home, count, due, lead_s)
    finally:
        home.over()


def _restored(home: Home, count: int, due: int, lead_s: float) -> _Figures:
    producer = home.producer()
    state = home.deployment.settings.topic("state.orchestrate")
    size = 0
    far = time.time_ns() // 1_000_000 + 20 * parked.DAY_MS
    rng = random.Random(5)
    for partition, key, value in parked.rows(
        range(due, count), (far + rng.randrange(10 * parked.DAY_MS) for _ in repeat(0)), PARTITIONS
    ):
        _send(producer, state, key, value, partition)
        size += len(key) + len(value)
    producer.flush(120)
    minute = time.time_ns() // 1_000_000 + int(lead_s * 1000)
    dues = [minute + rng.randrange(60_000) for _ in range(due)]
    for partition, key, value in parked.rows(range(due), iter(dues), PARTITIONS):
        _send(producer, state, key, value, partition)
        size += len(key) + len(value)
    place = Positions(partitions=PARTITIONS, next=dict.fromkeys(TOPICS, 0), at=time.time_ns() // 1_000_000)
    for partition in range(PARTITIONS):
        _send(producer, state, *parked.version_row(), partition)
        _send(producer, state, positions_key("runs"), msgspec.json.encode(place), partition)
    if producer.flush(120):
        raise RuntimeError("the state was not acknowledged")
    with home.deployment.process("meter") as meter:
        home.ready("meter", meter)
        with home.deployment.process("orchestrate") as child:
            began = time.monotonic()
            home.ready("orchestrate", child)
            first_s = time.monotonic() - began
            wait_for(f"{count} runs", lambda: home.metric("uptake_runs") >= count - due, child, 30, 0.1)
            before = child.peak_mb()
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
        (home.deployment.settings.run_dir / "targets" / "orchestrate-0.json").unlink()
        began = time.monotonic()
        with home.deployment.process("orchestrate") as child:
            home.ready("orchestrate", child)
            restored_s = time.monotonic() - began
            wait_for(f"{count} runs", lambda: home.metric("uptake_runs") >= count - due, child, 30, 0.1)
            parked_mb = psutil.Process(child.pid).memory_info().rss >> 20
            left_s = minute / 1000 - time.time()
            if left_s < 1:
                raise RuntimeError(
                    f"recovered {-left_s:.0f} s after the first timer's time: repeat it with a longer lead"
                )
            time.sleep(left_s)
            cpu = child.cpu_s()
            wait_for(f"{due} timers", lambda: home.metric("uptake_runs") == count - due, child, 90, 0.5)
            used = child.cpu_s() - cpu
            after = child.peak_mb()
    late = _lateness(home, dues)
    cuts = statistics.quantiles(late, n=1000, method="inclusive")
    return {
        "count": count,
        "due": due,
        "bytes_a_row": round(size / count),
        "first_s": round(first_s, 1),
        "restored_s": round(restored_s, 1),
        "parked_mb": parked_mb,
        "peak_mb": max(before, after),
        "late_p50_ms": round(statistics.median(late)),
        "late_p99_ms": round(cuts[989]),
        "late_max_ms": max(late),
        "cpu_s": round(used, 1),
        "disorder_ms": parked.DISORDER_MS,
    }


def _lateness(home: Home, dues: list[int]) -> list[int]:
    """Broker's time of each command less its due time; every one of them came, once."""
    wanted = {parked.event(number, 0)["cart"]: due for number, due in enumerate(dues)}
    late: dict[object, int] = {}
    topic = home.deployment.settings.topic("commands.product")
    for kind, at, value in home.cluster.stamped(topic):
        command = msgspec.json.decode(value)
        cart = command["payload"]["cart"]
        if kind != TIMESTAMP_LOG_APPEND_TIME or cart in late or command["issued_at"] != wanted[cart]:
            raise RuntimeError(f"a command twice, or not of its time: {command}")
        late[cart] = at - wanted[cart]
    if len(late) != len(dues):
        raise RuntimeError(f"{len(late)} of {len(dues)} timers fired")
    return list(late.values())


def _send(producer: Producer, topic: str, key: bytes, value: bytes, partition: int = -1) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)


def measure(cluster: Cluster, data: Path, *, quick: bool) -> _Figures:
    """All of it."""
    alone = steps(2_000 if quick else 20_000)
    print(f"    {alone}", flush=True)
    on_kafka = live(cluster, data, 20_000 if quick else 200_000)
    print(f"    {on_kafka}", flush=True)
    count, due, lead_s = (50_000, 1_000, 30.0) if quick else (1_000_000, 10_000, 120.0)
    found = restored(cluster, data, count=count, due=due, lead_s=lead_s)
    print(f"    {found}", flush=True)
    return {"steps": alone, "live": on_kafka, "parked": found}
