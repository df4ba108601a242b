"""What a running deployment does, gathered from where everybody can see it: /metrics of its processes, public topics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from app.kafka import Record, read
from app.probes import targets
from app.settings import Settings
from schemas.commands import DOMAINS

FOLLOWED = ("tables.adoption", "tables.health", "detections", *(f"commands.{d}" for d in DOMAINS), "sink", "receipts")
RECENT = 50
EVERY_S = 1.0
SUMMED = (
    "uptake_rows_total",
    "uptake_lag_rows",
    "uptake_dead_letters_total",
    "uptake_detections_total",
    "uptake_commands_total",
    "uptake_deliveries_total",
)
WATERMARK = "uptake_watermark_seconds"
LOOKED_AT = {"name[]": [*SUMMED, WATERMARK]}
"""Every second, of every process: all that it measures would take it a hundredth of its core."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process."""

    name: str
    role: str
    address: str
    ready: bool
    detail: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    """Sums over all labels."""
    watermarks_s: dict[str, float] = field(default_factory=dict)
    """By `topic/partition`; of those it no longer owns, where it left them."""


def watermark_s(found: Iterable[Worker]) -> float | None:
    """Event time, seconds, that every partition has passed. Of a partition that moved, the newest owner's word counts."""
    newest: dict[str, float] = {}
    for worker in found:
        for place, at in worker.watermarks_s.items():
            newest[place] = max(at, newest.get(place, at))
    return min(newest.values(), default=None)


async def workers(settings: Settings, *, metrics: bool = True) -> list[Worker]:
    """Every process that announced itself in this data directory and answers."""
    found = targets(settings.run_dir / "targets")
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
        answers = await asyncio.gather(
            *(_worker(http, name, role, address, metrics) for name, (role, address) in found.items())
        )
    return [worker for worker in answers if worker is not None]


async def _worker(http: httpx.AsyncClient, name: str, role: str, address: str, metrics: bool) -> Worker | None:
    try:
        health = await http.get(f"http://{address}/readyz")
        text = (await http.get(f"http://{address}/metrics", params=LOOKED_AT)).text if metrics else ""
    except httpx.HTTPError:
        return None  # it is starting again, or its file outlived it
    sums: dict[str, float] = {}
    watermarks: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "uptake_rows_total" and sample.labels.get("outcome") == "control":
                continue
            if sample.name == WATERMARK:
                if sample.value:  # a partition without products has none yet
                    watermarks["{topic}/{partition}".format(**sample.labels)] = sample.value
            elif sample.name in SUMMED:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    body: dict[str, Any] = health.json()
    return Worker(name, role, address, health.status_code == 200, body, sums, watermarks)


class Watch:
    """A running picture. `start`, then read the fields; `stop` when done."""

    def __init__(self, settings: Settings, told: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self._settings = settings
        self._told = told
        self._tasks: list[asyncio.Task[None]] = []
        self._rows: deque[tuple[float, float]] = deque(maxlen=6)
        self.workers: list[Worker] = []
        self.events_per_s = 0.0
        self.adoption: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.health: dict[tuple[str, str], dict[str, Any]] = {}
        self.detections: deque[dict[str, Any]] = deque(maxlen=RECENT)
        self.commands: deque[dict[str, Any]] = deque(maxlen=RECENT)
        self.sink: deque[dict[str, Any]] = deque(maxlen=RECENT)
        self.seen = {"detections": 0, "commands": 0, "sink": 0, "delivered": 0}
        """Since the watching began."""

    def start(self) -> None:
        """Begins to look, in the background."""
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._follow())]

    async def stop(self) -> None:
        """Ends it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def lag(self) -> int:
        """Rows that wait, over all roles."""
        return int(sum(w.metrics.get("uptake_lag_rows", 0.0) for w in self.workers))

    @property
    def rows(self) -> int:
        """Rows read by the processes that run now."""
        return int(sum(w.metrics.get("uptake_rows_total", 0.0) for w in self.workers if w.role == "meter"))

    @property
    def watermark_s(self) -> float | None:
        """Event time up to which everything is complete, seconds since the epoch."""
        return watermark_s(self.workers)

    async def _look(self) -> None:
        while True:
            self.workers = await workers(self._settings)
            now = time.monotonic()
            if self._rows and self._rows[-1][1] > self.rows:
                self._rows.clear()  # a process started again and counts from zero
            self._rows.append((now, float(self.rows)))
            (first, low), (last, high) = self._rows[0], self._rows[-1]
            self.events_per_s = (high - low) / (last - first) if last > first else 0.0
            await asyncio.sleep(EVERY_S)

    async def _follow(self) -> None:
        async with aclosing(read(self._settings, FOLLOWED, follow=True, from_end=True)) as records:
            async for record in records:
                with contextlib.suppress(ValueError):
                    self._take(record)

    def _take(self, record: Record) -> None:
        value: Any = json.loads(record.value or b"null")
        if not isinstance(value, dict):
            return
        topic = record.topic
        if topic == "tables.adoption":
            if value["feature"] != "*":
                self._newest(self.adoption, (value["tenant"], value["product"], value["feature"]), value, "window_end")
        elif topic == "tables.health":
            self._newest(self.health, (value["tenant"], value["product"]), value, "at")
        elif topic == "receipts":
            self.seen["delivered"] += value.get("status") == "delivered"
        else:
            kind = "commands" if topic.startswith("commands.") else topic
            {"detections": self.detections, "commands": self.commands, "sink": self.sink}[kind].append(value)
            self.seen[kind] += 1
            if self._told is not None:
                self._told(kind, value)

    def _newest(self, rows: dict[Any, dict[str, Any]], key: Any, value: dict[str, Any], at: str) -> None:
        # One row a feature: the shortest window, which is the one that moves.
        before = rows.get(key)
        length = value.get("window_end", 0) - value.get("window_start", 0)
        if before is not None:
            shorter = before.get("window_end", 0) - before.get("window_start", 0)
            if length > shorter or value[at] < before[at]:
                return
        rows[key] = value
