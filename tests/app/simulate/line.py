"""All tasks of METER, DECIDE and ORCHESTRATE for one partition, in one process and without Kafka: worlds are acted out in them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from app.acting_out import HOUR_MS, parted, steps
from app.simulate.beside import Planted
from core.batch import Batch
from core.decide.signals import SignalsTask
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.meter.others import OthersTask
from core.meter.task import MeterTask
from core.outcomes.task import OutcomesTask
from core.task import Task
from core.workflows.task import SETTLED_MS, RunsTask
from schemas.definitions import Definition
from schemas.events import EVENTS, OTHERS
from schemas.registers import SOURCES

NOW = 1_795_000_000_000
"""When everything is read, long after it has happened."""


class Keys:
    def key(self, row: int) -> bytes | None:
        return None


class Line:
    """Fed with events; each task hears what the others tell."""

    def __init__(self, definitions: Iterable[Definition]) -> None:
        catalogue = Catalogue()
        for definition in definitions:
            catalogue.put(definition)
        self._meter, self._others = MeterTask(0, 1, catalogue), OthersTask(0, 1, catalogue, max_ids=200_000)
        self._runs = RunsTask(0, 1, catalogue, SOURCES)
        outcomes = OutcomesTask(0, 1, catalogue)
        self._tasks: dict[str, list[Task]] = {
            "signals": [SignalsTask(0, 1, catalogue), self._runs],
            "meter.registers": [RegistersTask(0, 1, catalogue, sources=SOURCES), self._runs],
            "outcome.parts": [outcomes],
            "receipts": [outcomes, self._runs],
            "detections": [self._runs],
        }
        self._offsets: defaultdict[str, int] = defaultdict(int)
        self._now = NOW
        self.commands: list[dict[str, Any]] = []
        self.suppressed: list[dict[str, Any]] = []

    def act_out(self, tests: Sequence[Planted], rests: Sequence[int] | None = None) -> None:
        """As `app.acting_out.act_out` does."""
        events = sorted((e for t in tests for e in t.events), key=lambda e: e.at)
        products = sorted({(t.tenant, str(e.body["product"])) for t in tests for e in t.events})
        self._mark("begun", events[0].at, products)
        for piece in steps(events) if rests is None else parted(events, rests):
            self._mark("progressed", piece[0].at)
            of_topic: defaultdict[str, list[bytes]] = defaultdict(list)
            for event in piece:
                of_topic[event.topic].append(event.value)
            for topic, values in sorted(of_topic.items()):
                self._read(topic, values)
        self._mark("progressed", max(t.until for t in tests) + HOUR_MS)

    def hear(self, topic: str, rows: Iterable[dict[str, Any]]) -> None:
        """Records of a topic between the roles."""
        self._tell(topic, [json.dumps(row).encode() for row in rows])

    def _mark(self, kind: str, at: int, products: Sequence[tuple[str, str]] = ()) -> None:
        word = {"type": f"uptake.replay.{kind}", "id": f"{kind}{at}", "replay": "line", "at": at, "act": True}
        for topic in EVENTS:
            self._read(topic, [json.dumps(word | {"products": products}).encode()])
        # What is due by then is done: timers go off when a clock has been known for a while.
        for _ in range(3):
            self._now += SETTLED_MS
            self._do(self._runs.tick(self._now, [(topic, 0) for topic in self._runs_topics]))

    _runs_topics = ("signals", "detections", "receipts", "meter.registers")

    def _read(self, topic: str, values: list[bytes]) -> None:
        self._do((self._others if topic in OTHERS else self._meter).step(self._batch(topic, values)))

    def _tell(self, topic: str, values: list[bytes]) -> None:
        for task in self._tasks[topic]:
            self._do(task.step(self._batch(topic, values)))

    def _batch(self, topic: str, values: list[bytes]) -> Batch:
        first, n = self._offsets[topic], len(values)
        self._offsets[topic] += n
        return Batch(topic, 0, list(values), np.arange(first, first + n), np.full(n, self._now), first + n, Keys())

    def _do(self, effects: Iterable[Effect]) -> None:
        told: defaultdict[str, list[bytes]] = defaultdict(list)
        for effect in effects:
            if not isinstance(effect, Emit) or effect.value is None:
                continue
            if effect.topic in self._tasks:
                told[effect.topic].append(effect.value)
            if effect.topic == "receipts":
                self.suppressed.append(json.loads(effect.value))
            if effect.topic.startswith("commands."):
                self.commands.append(json.loads(effect.value))
        # METER writes signals with, or before, the registers that say how far event time is.
        for topic, values in sorted(told.items(), key=lambda t: t[0] != "signals"):
            self._tell(topic, values)
