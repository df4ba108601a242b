"""The real METER on the simulated Kafka: what it published and keeps after everything equals one fold of the log.

Event time runs faster than the broker's clock, so that windows close, and a replay is open from the first row on, so that no
idle clock depends on when somebody looked.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from core.definitions import Catalogue
from core.effects import Emit
from core.meter.task import PERFORMANCE, TOPICS, MeterTask
from core.task import TaskSpec
from schemas.registers import Clock, decode
from tests.core.meter.logs import Published, Record, batch, marker
from tests.core.meter.test_recovery import plain
from tests.sim.broker import Broker
from tests.sim.loop import EPOCH_S
from tests.sim.scenario import state_rows

BEGIN = int(EPOCH_S * 1000) - 3_600_000
PACE_MS = 9_000
MAX_IDS = 24_000


class Metering:
    """Usage and requests of one product."""

    group = "events"
    topics = TOPICS
    outputs = ("meter.registers", "signals")

    def __init__(self) -> None:
        self._rows = 0

    def spec(self, partitions: int) -> TaskSpec:
        return TaskSpec("sim", self.group, TOPICS, lambda n: self._task(n, partitions), "state.sim")

    def _task(self, partition: int, partitions: int) -> MeterTask:
        return MeterTask(partition, partitions, Catalogue(), max_ids=MAX_IDS)

    def specs(self, partitions: int) -> list[TaskSpec]:
        return [self.spec(partitions)]

    def pump(self, wires: object, net: object) -> None:
        return None

    def beside(self, topic: str) -> bytes | None:
        return None

    def first(self, topic: str) -> bytes | None:
        return marker("begun", BEGIN, BEGIN).value

    def row(self, topic: str, partition: int, key: bytes, sequence: int, at: int, random: Random) -> bytes:
        self._rows += 1
        # One row in eight comes twice.
        number = self._rows - (random.random() < 0.125)
        body: dict[str, Any] = {
            "id": f"e{number}",
            "tenant": "acme",
            "product": "app",
            "occurred_at": BEGIN + number * PACE_MS,
        }
        if topic == PERFORMANCE:
            body |= {"type": "request.completed", "service": "api", "latency_ms": 1 + number % 7}
        else:
            body |= {"type": "feature.used", "feature": key.decode(), "user": f"u{int(random.random() * 5)}"}
        return json.dumps(body).encode()

    def never(self) -> bytes:
        return b'{"never": true}'

    def differences(self, broker: Broker, partition: int) -> list[str]:
        partitions = len(broker.topics["p.meter.registers"])
        once, kept, told = self._task(partition, partitions), self._task(partition, partitions), Published()
        for topic in TOPICS:
            rows = broker.topics[f"p.{topic}"][partition].committed()
            times = broker.topics[f"p.{topic}"][partition].times()
            records = [Record(row.value, times[row.offset], row.key or b"") for row in rows]
            if records:
                told.take(once.step(batch(records, topic, 0, partition)))
        for row in state_rows(broker, partition):
            assert row.key is not None
            kept.load(row.key, row.value)
        kept.loaded()
        found = [
            f"METER's {topic} of partition {partition} is not the fold"
            for topic, a, b in ((t, once._sources[t], kept._sources[t]) for t in TOPICS)
            if plain(a) != plain(b)
        ]
        seen = Published()
        for number, log in enumerate(broker.topics["p.meter.registers"]):
            told_here = [(row, decode(row.value)) for row in log.committed() if row.value]
            # Clocks are told to every partition of the registers: one of them is read.
            mine = [r for r, d in told_here if d.partition == partition and not (number and isinstance(d, Clock))]
            try:
                seen.take([Emit("meter.registers", row.key, row.value) for row in mine])
            except AssertionError as error:
                return [*found, f"registers of partition {partition}: {error}"]
        if seen.clocks != told.clocks or _cells(seen) != _cells(told):
            found.append(f"registers of partition {partition}: {_cells(seen)} instead of {_cells(told)}")
        return found


def _cells(published: Published) -> dict[Any, Any]:
    """Every cell that was told, and how often: a patch may be told in one record or in several."""
    found: dict[Any, list[Any]] = {}
    for place, patches in published.patches.items():
        for end, version, figures in patches:
            for name, values in figures.items():
                found.setdefault((*place, end, version, name), []).append(values)
    return found
