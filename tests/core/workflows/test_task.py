"""ORCHESTRATE's task: what it reads and writes, when its timers fire, what stays over a restart."""

from __future__ import annotations

import hashlib
import json

import msgspec
import numpy as np

from core.batch import Batch
from core.definitions import Catalogue
from core.effects import DeadLetter, Effect, Emit, Observe
from core.forgetting import digest
from core.meter.signals import Signals
from core.workflows.task import SETTLED_MS, RunsTask
from core.workflows.waits import waits_of
from schemas.definitions import Forgotten, OnBand, OnStage, OnThreshold, Pause, Workflow
from schemas.registers import Clock, Signal, encode
from tests.core.workflows.build import COMMAND, T0, H, S, act, workflow

CAUGHT = [("signals", 0), ("receipts", 0)]
WAIT = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1h"}, "next": "b"}


class Keys:
    def key(self, row: int) -> bytes | None:
        return b"acme|user:u"


class Runner:
    """A task and what it put out."""

    def __init__(self, *workflows: Workflow) -> None:
        self.catalogue = Catalogue()
        for one in workflows:
            self.catalogue.put(one)
        self.state: dict[bytes, bytes] = {}
        self.task = RunsTask(0, 1, self.catalogue)
        self.effects: list[Effect] = []
        self.now = T0

    def restart(self) -> None:
        for key, value in self.task.drain():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        self.task = RunsTask(0, 1, self.catalogue)
        for key, value in self.state.items():
            self.task.load(key, value)
        self.task.loaded()

    def take(self, topic: str, *values: bytes) -> None:
        n = len(values)
        batch = Batch(topic, 0, list(values), np.arange(n), np.full(n, self.now), n, Keys())
        self.effects += self.task.step(batch)

    def signal(self, type_: str, at: int, **more: object) -> None:
        fields: dict[str, object] = {
            **{"tenant": "acme", "product": "shop", "subject": "user:u", "kind": "event", "cause": f"{type_}-{at}"},
            **{"rules": [], "workflows": ["w"], "topic": "events.usage", "at": at, "data": {"type": type_}},
            **more,
        }
        self.take("signals", msgspec.json.encode(msgspec.convert(fields, Signal)))

    def clock(self, at: int, *sources: str) -> None:
        for source in sources or ("events.usage", "events.performance"):
            self.take("meter.registers", encode(Clock(source=source, partition=0, at=at, replaying=False)))

    def tick(self, after: int = 1_000, caught: list[tuple[str, int]] | None = None) -> None:
        self.now += after
        self.effects += self.task.tick(self.now, CAUGHT if caught is None else caught)

    def emitted(self, topic: str) -> list[dict[str, object]]:
        return [json.loads(e.value or b"") for e in self.effects if isinstance(e, Emit) and e.topic == topic]

    @property
    def steps(self) -> list[object]:
        return [c["step"] for c in self.emitted("commands.sales")]


def test_a_run_of_what_was_told_a_day_late_waits_for_the_delivery_however_late_that_is() -> None:
    run = Runner(workflow(act("a", "b", wait="delivery", timeout="1h"), act("b")))
    run.now = T0 + 24 * H
    run.signal("go", T0)
    run.signal("go", T0 - 1, subject="user:v")
    run.restart()
    run.clock(T0 + 100 * H)
    run.tick()
    run.tick()
    of = {c["subject"]: c["id"] for c in run.emitted("commands.sales")}
    for subject, command in of.items():
        receipt = {"tenant": "acme", "subject": subject, "command": command, "status": "delivered", "final": True}
        run.take("receipts", json.dumps({**receipt, "at": T0 + 200 * H}).encode())
    assert [(c["subject"], c["step"], c["issued_at"]) for c in run.emitted("commands.sales")] == [
        ("user:u", "a", T0), ("user:v", "a", T0 - 1), ("user:v", "b", T0 - 1),
    ]  # fmt: skip
    ended = {str(r["subject"]): r["status"] for r in run.emitted("runs")}
    assert ended == {"user:u": "failed", "user:v": "completed"}


def test_a_timer_waits_for_the_clock_of_every_source_and_for_the_signals_before_it() -> None:
    run = Runner(workflow(act("a", "w"), WAIT, act("b")))
    run.signal("go", T0)
    run.clock(T0 + H, "events.usage")
    run.tick()
    run.tick()
    assert run.steps == ["a"], "performance has not come so far"
    run.clock(T0 + H)
    run.tick(1)
    run.tick(SETTLED_MS - 1)
    run.tick(1_000, caught=[("receipts", 0)])
    assert run.steps == ["a"], "signals may still be there"
    assert run.task.wake_at() == run.now + SETTLED_MS
    run.tick()
    assert run.steps == ["a", "b"] and run.task.wake_at() is None
    assert [c["issued_at"] for c in run.emitted("commands.sales")] == [T0, T0 + H]


def test_what_is_drained_is_all_there_is_to_a_run() -> None:
    run = Runner(workflow(act("a", "w"), WAIT, act("b")))
    run.signal("go", T0)
    run.restart()
    run.catalogue.apply(b"all|workflow|w", None)
    run.clock(T0 + H)
    run.restart()
    run.tick()
    run.tick()
    assert run.steps == ["a", "b"]
    run.restart()
    assert [k for k in run.state if b"clocks" not in k] == []


def test_history_tells_every_job() -> None:
    run = Runner(workflow(act("a", "w"), WAIT, act("b")))
    run.signal("go", T0)
    run.clock(T0 + H)
    run.tick()
    run.tick()
    told = run.emitted("runs")
    assert [(r["seq"], r["job"]["job"], r["status"]) for r in told] == [
        (1, "start", "running"),
        (2, "timer", "completed"),
    ]  # type: ignore[index]


def test_a_paused_workflow_begins_nothing_and_its_runs_order_nothing() -> None:
    run = Runner(workflow(act("a", "w"), WAIT, act("b", wait="delivery", on_error="continue")))
    run.signal("go", T0)
    run.catalogue.put(Pause(name="rule:w", scope="rule", of="w"))
    run.signal("go", T0 + S, subject="user:v")
    run.clock(T0 + H)
    run.tick()
    run.tick()
    assert run.steps == ["a"]
    (receipt,) = run.emitted("receipts")
    assert receipt["status"] == "suppressed" and receipt["reason"] == "paused"
    run.take("receipts", json.dumps(receipt).encode())
    assert len(run.task.desk) == 0


def test_a_workflow_in_shadow_orders_nothing_and_goes_on_as_if_it_had() -> None:
    run = Runner(workflow(act("a", "w", wait="delivery"), WAIT, act("b"), mode="shadow"))
    run.signal("go", T0)
    (receipt,) = run.emitted("receipts")
    assert (receipt["status"], receipt["reason"]) == ("suppressed", "shadow")
    run.take("receipts", json.dumps(receipt).encode())
    run.clock(T0 + H)
    run.tick()
    run.tick()
    assert run.steps == []
    told = run.emitted("receipts")
    assert [r["shadowed"]["step"] for r in told] == ["a", "b"]  # type: ignore[index]
    assert len(run.task.desk) == 0


def test_an_answer_comes_as_a_signal() -> None:
    ask = {"kind": "approve", "id": "ask", "request": COMMAND, "assignee": "ann", "deadline": "1d", "approved": "b"}
    run = Runner(workflow(ask, act("b")))
    run.signal("go", T0)
    (told,) = run.emitted("runs")
    run.signal("x", T0 + S, kind="approval", data={"run": told["run"], "step": "ask", "approved": True, "by": "ann"})
    assert run.steps == ["ask", "b"]
    run.signal("x", T0 + S, kind="approval", data={"run": told["run"], "step": "ask", "approved": "yes"})
    assert [e.reason for e in run.effects if isinstance(e, DeadLetter)] == ["invalid"]


def test_bad_rows_are_set_aside_and_touch_nothing_else() -> None:
    run = Runner(workflow(act("a")))
    for topic in ("signals", "detections", "receipts"):
        run.take(topic, b"", b"{}", b"[1]")
    run.take("meter.registers", b"junk")
    run.signal("go", T0)
    assert len([e for e in run.effects if isinstance(e, DeadLetter)]) == 9
    assert run.steps == ["a"]


def test_who_is_forgotten_has_no_runs() -> None:
    run = Runner(workflow(act("a", "w"), WAIT, act("b"), reentry="once"))
    run.signal("go", T0)
    salt = hashlib.sha256(b"salt").hexdigest()
    name = digest(salt, "acme", "user:u")
    run.catalogue.put(Forgotten(tenant="acme", name=name, of="user", salt=salt, asked_at=T0))
    run.tick()
    run.signal("go", T0 + S)
    run.restart()
    assert run.steps == ["a"] and len(run.task.desk) == 0
    assert not any(b"user:u" in k or b"user:u" in v for k, v in run.state.items())


def test_backfills_begin_no_run() -> None:
    run = Runner(workflow(act("a")))
    run.signal("go", T0, act=False)
    assert run.steps == []


def test_meter_waits_for_triggers_and_named_events() -> None:
    catalogue = Catalogue()
    catalogue.put(workflow(act("a")))
    assert Signals("events.usage", catalogue).watch() is not None
    assert Signals("events.performance", catalogue).watch() is None
    kinds = {
        "band": OnBand(bands=["critical"]),
        "stage": OnStage(stages=["low"]),
        "threshold": OnThreshold(threshold="t"),
    }
    found = {k: {w.subject for w in waits_of(workflow(act("a"), trigger=t.model_dump()))} for k, t in kinds.items()}
    assert found == {"band": {"product"}, "stage": {"feature"}, "threshold": {"product", "feature", "service"}}


def test_how_many_runs_of_which_workflow_go_on_is_measured_also_when_none_is_left() -> None:
    """Also by a detection of METER's: a workflow may begin with a prediction, and is then about users."""
    runner = Runner(workflow(act("a", "w"), WAIT, act("b")))

    def shown() -> list[float]:
        runner.effects.clear()
        runner.tick()
        found = [e for e in runner.effects if isinstance(e, Observe) and e.metric == "uptake_workflow_runs"]
        assert all(e.labels == ("w", "0") for e in found)
        return [e.value for e in found]

    assert shown() == []
    runner.signal("go", T0)
    assert shown() == [1]
    runner.restart()
    assert shown() == [1]
    runner.clock(T0 + 2 * H)
    values = [value for _ in range(4) for value in shown()]
    assert values[-1] == 0, "told once, then no more"
    assert shown() == []
    predicted = workflow(act("b"), trigger={"kind": "prediction", "prediction": "leaving"})
    assert {wait.subject for wait in waits_of(predicted)} <= {"user"}
