"""What `make bench-rules` measures is what it says: rules wait for something, parked runs are runs, figures are drawn."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from bench import parked, table
from bench.hotpath import Keys
from bench.rules import KINDS, rules
from bench.runs import steps
from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Emit
from core.meter.task import MeterTask
from core.workflows.task import RunsTask
from schemas.registers import Clock, Signal, encode

T0 = 1_767_603_600_000
MET = {
    "mixed": [{"feature": "rare-4"}, {"type": "order.3"}, {"user": "nobody-5"}],
    "types": [{"type": "order.5"}],
    "users": [{"user": "nobody-5"}],
    "others": [{"tenant": "other-5", "properties": {"n": 6}}],
    "apart": [{"properties": {"plan": "p5"}}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_rules_of_the_bench_wait_for_something(kind: str) -> None:
    plain = {
        "id": "0",
        "tenant": "acme",
        "product": "app",
        "type": "feature.used",
        "feature": "f",
        "user": "u",
        "occurred_at": T0,
    }
    events = [plain, *({**plain, "id": str(n), **more} for n, more in enumerate(MET[kind], 1))]
    values: list[bytes | None] = [json.dumps(event).encode() for event in events]
    n = len(values)
    told = MeterTask(0, 1, rules(kind, 20)).step(
        Batch("events.usage", 0, values, np.arange(n), np.full(n, T0), n, Keys())
    )
    sent = [
        msgspec.json.decode(e.value or b"", type=Signal) for e in told if isinstance(e, Emit) and e.topic == "signals"
    ]
    assert [s.cause for s in sent] == [str(n) for n in range(1, n)] and all(len(s.rules) == 1 for s in sent)


def test_parked_runs_are_runs_that_wait_for_their_time() -> None:
    catalogue = Catalogue()
    catalogue.put(parked.workflow())
    task, dues = RunsTask(0, 1, catalogue), [T0 + 7_000, T0 + 2_000, T0 + 9_000]
    task.load(*parked.version_row())
    for _, key, value in parked.rows(range(3), iter(dues), 1):
        task.load(key, value)
    task.loaded()
    assert len(task.desk) == 3 and task.desk.due == T0 + 2_000
    clocks: list[bytes | None] = [
        encode(Clock(source=s, partition=0, at=T0 + 8_000, replaying=False))
        for s in ("events.usage", "events.performance")
    ]
    list(task.step(Batch("meter.registers", 0, clocks, np.arange(2), np.full(2, T0), 2, Keys())))
    told = [e for now in (T0, T0 + 1_000) for e in task.tick(now, [("signals", 0)]) if isinstance(e, Emit)]
    given = [json.loads(e.value or b"") for e in told if e.topic == "commands.product"]
    assert [(c["subject"], c["issued_at"], c["payload"]["due"]) for c in given] == [
        ("user:user-00000001", T0 + 2_000, T0 + 2_000),
        ("user:user-00000000", T0 + 7_000, T0 + 7_000),
    ]
    assert len(task.desk) == 1


def test_steps_are_nodes_entered() -> None:
    assert {name: steps(10)[name] for name in ("runs", "jobs", "steps")} == {"runs": 10, "jobs": 20, "steps": 30}


def test_figures_are_drawn() -> None:
    result = {
        "meter": [{"rules": "by type", "cpu_s_per_million": {"0": 2.0, "10": 2.1, "10000": 2.2}, "ratio": 1.05}],
        "decide": {"few_us": 50.0, "many_us": 51.0, "ratio": 1.02},
    }
    assert "| by type | 2.00 | 2.10 | 2.20 | 1.05 × |" in table.rules(result)
    found = {
        name: 1
        for name in ("bytes_a_row", "parked_mb", "peak_mb", "restored_s", "late_p50_ms", "late_p99_ms", "late_max_ms")
    }
    found |= {"count": 1_000_000, "due": 10_000, "disorder_ms": 100}
    drawn = table.runs({"steps": {"steps_s": 12_000}, "live": {"steps_s": 9_000}, "parked": found})
    assert "| 1,000,000 parked runs: state rows | 1 | B each |" in drawn and "12,000" in drawn
