"""Uptake as a system under test: its own worker processes on topics of a fresh prefix, with nothing switched off."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.definitions import publish
from app.forkserver import PARENT
from app.settings import Role, Settings
from app.topics import create
from bench.kafka import Cluster
from bench.process import Child, wait_for
from schemas.definitions import CommandTemplate, Compare, Definition, OnEvent, Rule


def a_rule(name: str, feature: str) -> Rule:
    """A rule without memory: every use of the feature orders something for its user."""
    return Rule(
        name=name,
        id=name,
        trigger=OnEvent(topic="events.usage", where=Compare(field="feature", op="==", value=feature)),
        command=CommandTemplate(type="product.bench.note", title="Bench", text="{{ feature }} was used"),
        ceiling_per_hour=1_000_000_000,
    )


@dataclass
class Deployment:
    """Topics, definitions and settings under one prefix."""

    cluster: Cluster
    prefix: str
    data: Path
    partitions: int
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = Settings(
            kafka=self.cluster.address,
            topic_prefix=self.prefix,
            data_dir=self.data,
            partitions=self.partitions,
            log_level="WARNING",
        )

    def prepare(self, definitions: list[Definition]) -> None:
        """Makes the topics and publishes the definitions."""
        asyncio.run(create(self.settings))
        if definitions:
            asyncio.run(publish(self.settings, definitions))

    @contextmanager
    def process(self, role: Role, slot: int = 0) -> Iterator[Child]:
        """One worker process of a role, as the supervisor starts it."""
        command = [sys.executable, "-m", "app.process", role, str(slot)]
        # Who is killed takes its workers along.
        environment = self.settings.environment() | {PARENT: str(os.getpid())}
        with Child(command, self.data / f"{role}-{slot}.out", environment) as child:
            yield child

    def ready(self, role: Role, slot: int = 0) -> bool:
        """Whether that process says so."""
        path = self.settings.run_dir / "targets" / f"{role}-{slot}.json"
        try:
            [entry] = json.loads(path.read_text())
            with urllib.request.urlopen(f"http://{entry['targets'][0]}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def metric(self, role: Role, name: str, slot: int = 0) -> float:
        """Sum of a metric's samples, as that process exports it. Only these are asked for: all of them, ten times a second, took METER
        a tenth of its core.
        """
        [entry] = json.loads((self.settings.run_dir / "targets" / f"{role}-{slot}.json").read_text())
        with urllib.request.urlopen(f"http://{entry['targets'][0]}/metrics?name[]={name}", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


@dataclass(frozen=True, slots=True)
class Caught:
    """How a backlog was worked off, between two committed positions."""

    rows: int
    seconds: float
    cpu_s: float
    peak_mb: int
    looks: tuple[tuple[float, float, float], ...] = ()
    """When, rows committed by then, CPU seconds used by then."""

    def after(self, rows: int) -> Caught:
        """The part behind the first so many rows. Raises `RuntimeError` where too few looks fell into it."""
        looks = tuple(look for look in self.looks if look[1] >= rows)
        return _caught(looks, self.peak_mb)

    def before(self, rows: int) -> Caught:
        """The part up to the first look that saw so many rows."""
        count = next((i for i, look in enumerate(self.looks) if look[1] >= rows), len(self.looks) - 1)
        return _caught(self.looks[: count + 1], self.peak_mb)

    def figures(self) -> dict[str, float]:
        """As kept in results."""
        return {
            "rows": self.rows,
            "events_s": round(self.rows / self.seconds),
            "cpu_s_per_million": round(self.cpu_s / self.rows * 1e6, 3),
            "peak_mb": self.peak_mb,
        }


def catch_up(deployment: Deployment, rows: int, processes: int = 1, seconds: float = 300) -> Caught:
    """Starts METER on a loaded topic and measures until its last row is in a committed checkpoint.

    `uptake_rows_total` counts rows once their checkpoint is committed; it is looked at ten times a second, as a scrape would.
    The first look that sees rows is where time begins (start, import and assignment are over), and its rows do not count.
    """
    reached: list[tuple[float, float, float]] = []

    def look(children: list[Child]) -> bool:
        try:
            done = sum(deployment.metric("meter", "uptake_rows_total", slot) for slot in range(processes))
        except OSError:
            return False
        if done and (not reached or done > reached[-1][1]):
            reached.append((time.perf_counter(), done, sum(c.cpu_s() for c in children)))
        return done >= rows

    with _several(deployment, processes) as children:
        wait_for(f"METER at {rows} rows", lambda: look(children), children[0], seconds, every=0.1)
        peak = sum(c.peak_mb() for c in children)
    return _caught(tuple(reached), peak)


def _caught(looks: tuple[tuple[float, float, float], ...], peak_mb: int) -> Caught:
    if len(looks) < 5:
        raise RuntimeError(f"rows were seen at {len(looks)} moments only: too few to measure by, give it more")
    (began, first, cpu), (ended, last, used) = looks[0], looks[-1]
    return Caught(int(last - first), ended - began, used - cpu, peak_mb, looks)


@contextmanager
def _several(deployment: Deployment, processes: int) -> Iterator[list[Child]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield [stack.enter_context(deployment.process("meter", slot)) for slot in range(processes)]


def figures_at(deployment: Deployment, window: str) -> dict[tuple[str, int], tuple[int, int]]:
    """(feature, window end) → (users, events) of a window, put together from METER's registers as DECIDE does: cells carried
    forward in each source partition, the newest version of an end, partitions summed."""
    import numpy as np

    from schemas.registers import Registers, decode

    cells: dict[tuple[int, str], dict[int, tuple[int, int, int]]] = {}
    for _, value in deployment.cluster.records(deployment.settings.topic("meter.registers")):
        record: Any = decode(value)
        if not isinstance(record, Registers) or record.source != "events.usage":
            continue
        for patch in record.patches:
            if patch.window != window:
                continue
            columns = {n: np.frombuffer(c, "<i8") for n, c in zip(record.columns, patch.columns, strict=True)}
            for i, cell in enumerate(np.frombuffer(patch.cells, "<i8").tolist()):
                ends = cells.setdefault((record.partition, record.names[cell]), {})
                version = ends.get(patch.end, (-1, 0, 0))[0]
                if patch.version >= version:
                    ends[patch.end] = (patch.version, int(columns["users"][i]), int(columns["events"][i]))
    total: dict[tuple[str, int], tuple[int, int]] = {}
    every = sorted({end for ends in cells.values() for end in ends})
    for (_, name), ends in cells.items():
        users = events = 0
        for end in every:
            if end in ends:
                _, users, events = ends[end]
            before = total.get((name, end), (0, 0))
            total[name, end] = (before[0] + users, before[1] + events)
    return {key: figure for key, figure in total.items() if figure != (0, 0)}
