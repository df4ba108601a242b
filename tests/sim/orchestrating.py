"""METER feeding the real ORCHESTRATE on the simulated Kafka: rows in, signals and clocks between, runs and their commands out.

METER is judged as in `metering`; runs by the plain interpreter of `tests.workflows`, given the committed signals in their order and
the last clocks: what it orders must stand committed, each command once, and every run must stand as it says.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import msgspec

from core.definitions import Catalogue
from core.meter.task import PERFORMANCE
from core.task import TaskSpec
from core.workflows.jobs import Record
from core.workflows.task import RunsTask, runs_spec
from core.workflows.testing import histories
from schemas.definitions import DEFINITION, Product, Workflow
from schemas.registers import HOT, Clock, decode
from tests.sim.broker import Broker
from tests.sim.deciding import PACE_MS, Clocked
from tests.sim.metering import BEGIN
from tests.sim.orders import committed
from tests.sim.summing import compare
from tests.workflows.oracle import OracleSubject

TOPIC = "events.usage"


def _workflow(name: str, start: str, nodes: Sequence[dict[str, Any]], **more: Any) -> Workflow:
    def uses(feature: str) -> dict[str, Any]:
        return {"where": {"kind": "compare", "field": "feature", "op": "==", "value": feature}}

    made = DEFINITION.validate_python(
        {
            "kind": "workflow",
            "name": name,
            "id": name,
            "trigger": {"kind": "event", "topic": TOPIC, **uses("x")},
            "events": {"again": uses("y"), "enough": uses("z")},
            "start": start,
            "nodes": nodes,
            **more,
        }
    )
    assert isinstance(made, Workflow)
    return made


def _act(name: str, next: str | None = None) -> dict[str, Any]:
    said = {"type": f"success.user.{name}", "title": name, "text": "{{ subject }}"}
    return {"kind": "act", "id": name, "command": said, "next": next}


def _wait(name: str, seconds: int, next: str) -> dict[str, Any]:
    return {"kind": "wait", "id": name, "until": {"kind": "span", "span": seconds}, "next": next}


def workflows() -> list[Workflow]:
    """Timers, waits for events that a timer may win, bodies that repeat, several runs of a subject at once, goals and ends."""
    answered = {"kind": "await", "id": "answer", "events": {"again": "thank"}, "timeout": 90, "timed_out": "remind"}
    turns = {"kind": "loop", "id": "turns", "body": "pause", "max_turns": 3, "next": "last"}
    return [
        _workflow(
            "care",
            "greet",
            [_act("greet", "answer"), answered, _act("thank"), _act("remind", "later"), _wait("later", 60, "close"), _act("close")],
            reentry="restart",
        ),
        _workflow(
            "nudge",
            "turns",
            [turns, _wait("pause", 45, "nudge"), _act("nudge"), _act("last")],
            reentry="parallel",
            goals=["enough"],
            lasts=400,
        ),
    ]  # fmt: skip


class _Runs(RunsTask):
    """Says whether a timer is to fire yet, so that nobody is judged before."""

    @property
    def waiting(self) -> int:
        due = self.desk.due
        return int(due is not None and due <= max(int(self._clocks.min()), self._trusted))


class Orchestrating(Clocked):
    """Usage and requests of one product, and two workflows of its users."""

    outputs = (*Clocked.outputs, "detections", "receipts", "runs", "commands.success")

    def __init__(self) -> None:
        super().__init__()
        self.workflows = workflows()
        self.catalogue = Catalogue()
        self.catalogue.put(Product(tenant="acme", name="app", stage_window="5m", health_window="5m", disorder_ms=0))
        for one in self.workflows:
            self.catalogue.put(one)

    def specs(self, partitions: int) -> list[TaskSpec]:
        """METER's and ORCHESTRATE's groups, as their roles register them."""
        runs = replace(runs_spec(self.catalogue, partitions), make=lambda n: _Runs(n, partitions, self.catalogue))
        return [self.spec(partitions), runs]

    def row(self, topic: str, partition: int, key: bytes, sequence: int, at: int, random: Random) -> bytes:
        self._rows += 1
        body: dict[str, Any] = {
            "id": f"e{self._rows}",
            "tenant": "acme",
            "product": "app",
            "occurred_at": BEGIN + self._rows * PACE_MS,
        }
        if topic == PERFORMANCE:
            body |= {"type": "request.completed", "service": "api", "latency_ms": 1 + self._rows % 7}
        else:
            body |= {"type": "feature.used", "feature": key.decode(), "user": f"u{int(random.random() * 3)}"}
        return json.dumps(body).encode()

    def differences(self, broker: Broker, partition: int) -> list[str]:
        return super().differences(broker, partition) + (self._runs(broker) if partition == 0 else [])

    def _runs(self, broker: Broker) -> list[str]:
        partitions = len(broker.topics["p.signals"])
        orders, ends = Counter[str](), Counter[tuple[str, str, str]]()
        known = {one.name: one for one in self.workflows}
        for partition in range(partitions):
            subjects: dict[str, OracleSubject] = {}
            for row in committed(broker, "signals", partition):
                told = json.loads(row.value or b"")
                if told["topic"] == TOPIC and told.get("workflows"):
                    subject = subjects.setdefault(told["subject"], OracleSubject(known, told["subject"]))
                    subject.happened({"at": told["at"], "id": told["cause"], "topic": TOPIC, "data": told["data"]})
            clock = _clock(broker, partition, partitions)
            for subject in subjects.values():
                if clock is not None:
                    subject.advance(clock)
                orders.update(given.id for run in subject.runs for given in run.given)
                ends.update((run.wf.name, run.status, run.outcome) for run in subject.runs)
        ours = Counter(json.loads(row.value or b"")["id"] for row in committed(broker, "commands.success"))
        found = compare("commands of runs", orders, ours)
        kept = (msgspec.json.decode(row.value or b"", type=Record) for row in committed(broker, "runs"))
        stand = (history[-1] for history in histories(kept).values())
        return found + compare("runs", ends, Counter((r.workflow, r.status, r.outcome) for r in stand))


def _clock(broker: Broker, partition: int, partitions: int) -> int | None:
    """The least clock of all sources, as a partition of the registers was told it; None while one has told none."""
    newest: defaultdict[tuple[str, int], int] = defaultdict(lambda: -1)
    for row in committed(broker, "meter.registers", partition):
        record = decode(row.value or b"")
        if isinstance(record, Clock):
            place = record.source, record.partition
            newest[place] = max(newest[place], record.at)
    least = min(newest[source, number] for source in HOT for number in range(partitions))
    return least if least >= 0 else None
