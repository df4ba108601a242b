"""A workflow is taken out of force while runs go on: nobody enters, and those inside finish, end, or take back and end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.task import MeterTask
from core.workflows.graph import Library
from core.workflows.problems import call_problems
from core.workflows.publishing import with_earlier
from core.workflows.replay import replay
from core.workflows.task import RunsTask
from core.workflows.testing import histories
from schemas.definitions import Workflow
from schemas.registers import Signal
from tests.core.meter.logs import T0 as NOON
from tests.core.meter.logs import Published, batch, usage
from tests.core.meter.test_signals import signals
from tests.core.workflows.build import COMMAND, T0, H, S, act, workflow
from tests.core.workflows.test_publishing import Told, listen, version

FIRST = version(1, act("a", "w", undo=COMMAND), listen(), act("b"), events={"opened": {"where": "type == 'opened'"}})


def retired(how: str, number: int = 2) -> Workflow:
    return FIRST.model_copy(update={"version": number, "retired": how})


def library(run: Told) -> Library:
    found = Library()
    for one in (FIRST, retired("cancel")):
        found.put(one)
    return found


@pytest.mark.parametrize(
    ("how", "steps", "status"),
    [
        ("finish", ["a", "b"], "completed"),
        ("cancel", ["a"], "cancelled"),
        ("undo", ["a", "a~undo"], "cancelled"),
    ],
)
@pytest.mark.parametrize("seen", [True, False])
def test_what_becomes_of_runs_that_go_on(how: str, steps: list[str], status: str, seen: bool) -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(retired(how), T0 + S, seen=seen or how == "finish")
    run.restart()
    run.signal("go", T0 + 2 * S, subject="user:v")
    run.signal("opened", T0 + 3 * S)
    run.until(T0 + 2 * H)
    assert run.steps == steps
    assert {r.subject: r.status for r in run.history} == {"user:u": status}, "nobody entered"
    assert len(run.task.desk) == 0
    assert all(replay(library(run), h) == [] for h in histories(run.history).values())


def test_it_ends_at_its_time_and_what_was_before_counts_before() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(retired("cancel"), T0 + 10 * S)
    run.signal("opened", T0 + 9 * S)
    assert run.steps == ["a", "b"] and run.history[-1].status == "completed"
    run.signal("go", T0 + 4 * S, cause="late", subject="user:v")
    assert len(run.history) == 2


def test_runs_of_several_versions_end_and_one_that_begins_anew_later_goes_on() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(FIRST.model_copy(update={"version": 2}), T0 + S)
    run.signal("go", T0 + 2 * S, subject="user:v")
    run.publish(retired("cancel", 3), T0 + 3 * S)
    again = with_earlier(retired("cancel", 3), FIRST.model_copy(update={"version": 4}))
    run.catalogue.put(again)
    run.signal("go", T0 + 4 * S, subject="user:x")
    run.until(T0 + 5 * S)
    assert {r.subject: r.status for r in run.history} == {
        "user:u": "cancelled",
        "user:v": "cancelled",
        "user:x": "running",
    }
    run.restart()
    assert [k for k in run.state if b"publish" in k] == [], "what every run has taken is over"


def test_it_may_be_retired_again_more_harshly() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(retired("finish"), T0 + S)
    run.publish(retired("undo", 3), T0 + 2 * S)
    run.until(T0 + 3 * S)
    assert run.steps == ["a", "a~undo"]


def sent(*workflows: Workflow) -> list[Signal]:
    catalogue, told = Catalogue(), Published()
    for one in workflows:
        catalogue.put(one)
    rows = [usage("e1", NOON, "u", type="go"), usage("e2", NOON + 1, "u", type="opened")]
    told.take(MeterTask(0, 1, catalogue).step(batch(rows)))
    return signals(told)


def test_meter_sends_what_runs_that_finish_wait_for_and_nothing_else() -> None:
    assert [s.cause for s in sent(FIRST)] == ["e1", "e2"]
    assert [s.cause for s in sent(FIRST, retired("finish"))] == ["e2"], "not what would begin one"
    assert sent(FIRST, retired("cancel")) == sent(FIRST, retired("undo")) == []
    other = with_earlier(FIRST, version(2, act("x"), events={}, retired="finish"))
    assert [s.cause for s in sent(FIRST, other)] == ["e2"], "what versions before wait for"


def test_meter_sends_what_runs_wait_for_although_the_next_version_is_not_in_force_yet() -> None:
    later = version(2, act("a", "w"), listen(), act("b"), events=FIRST.events, effective_from=NOON + H)
    assert [s.cause for s in sent(FIRST, later)] == ["e2"]


def test_it_is_in_nobodys_way() -> None:
    """A tenant's own one is out of force: everybody's is in force for it again; and no workflow calls one that is."""
    run = Told(version(1, act("b")), FIRST.model_copy(update={"tenant": "acme", "retired": "finish"}))
    run.signal("go", T0)
    assert run.steps == ["b"]
    assert list(run.catalogue.heads()) == run.catalogue.of(Workflow) and len(list(run.catalogue.retired())) == 1
    run.catalogue.apply(b"acme|workflow|w", None)
    assert list(run.catalogue.retired()) == []


def test_nobody_calls_it() -> None:
    never = {"kind": "event", "topic": "events.usage", "where": "type == 'never'"}
    called = workflow(act("b"), name="sub", id="sub", trigger=never)
    caller = workflow({"kind": "call", "id": "call", "workflow": "sub"})
    known = {w.name: w for w in (called.model_copy(update={"retired": "finish"}), caller)}
    assert [*call_problems(caller, known)] == ["nodes[0] (call): workflow: sub is retired: no new run can call it"]
    run = Told(caller, called)
    run.signal("go", T0, subject="user:v")
    assert run.steps == ["call:0/b"]
    run.catalogue.put(called.model_copy(update={"version": 2, "retired": "finish"}))
    run.signal("go", T0 + S)
    assert (run.history[-1].status, run.history[-1].outcome) == ("failed", "unknown_workflow")


_word = st.tuples(st.integers(0, 3), st.integers(1, 40))


def _live(words: list[tuple[int, int]], lazy: bool) -> dict[str, list[Any]]:
    """Each subject's commands, with the workflow retired at minute 20. `lazy`: time is read at the end only."""
    first = version(1, act("a", "l", undo=COMMAND), LOOP, listen(to="c"), act("c"))
    run = Told(first)
    for n in range(4):
        run.signal("go", T0 + n * S, subject=f"user:u{n}", cause=f"go-{n}")
    for minute in sorted({20, *(m for _, m in words)}):
        if minute == 20:
            run.publish(first.model_copy(update={"version": 2, "retired": "undo"}), T0 + 20 * 60 * S)
        for k, (n, _) in enumerate(w for w in words if w[1] == minute):
            run.signal("opened", T0 + minute * 60 * S + 1 + k, subject=f"user:u{n}", cause=f"o-{minute}-{k}")
        if not lazy:
            run.until(T0 + minute * 60 * S)
            run.restart()
    run.until(T0 + 4 * H)
    assert isinstance(run.task, RunsTask) and len(run.task.desk) == 0
    found: dict[str, list[Any]] = {}
    for command in run.emitted("commands.sales"):
        found.setdefault(str(command["subject"]), []).append((command["step"], command["issued_at"], command["id"]))
    return found


LOOP: dict[str, Any] = {"kind": "loop", "id": "l", "max_turns": 3, "body": "w", "next": None}


@settings(deadline=None, max_examples=25)
@given(st.lists(_word, max_size=8))
def test_the_same_log_gives_the_same_commands_whenever_time_is_read(words: list[tuple[int, int]]) -> None:
    assert _live(words, lazy=False) == _live(words, lazy=True)
