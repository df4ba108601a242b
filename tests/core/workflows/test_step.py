"""Single decisions: bounds, borders of waits, lateness, receipts, answers, ends."""

from __future__ import annotations

import pytest

from core.workflows.desk import Desk
from core.workflows.jobs import Approval, Cancel, Event, Receipt, Start, Timer
from core.workflows.replay import replay
from core.workflows.run import MOST_HELD, pack, unpack
from core.workflows.shelf import Shelf
from core.workflows.step import begin, step
from schemas.commands import command_id
from tests.core.workflows.build import COMMAND, T0, H, S, Stage, act, workflow


@pytest.mark.parametrize("turns", [1, 3])
def test_a_loop_turns_as_often_as_it_may_and_not_once_more(turns: int) -> None:
    stage = Stage(
        workflow({"kind": "loop", "id": "l", "body": "a", "max_turns": turns, "exhausted": "z"}, act("a"), act("z"))
    )
    stage.event(T0)
    assert [s for s, _ in stage.steps] == [*(f"l:{n}/a" for n in range(1, turns + 1)), "z"]


def test_no_turn_begins_after_its_time() -> None:
    loop = {"kind": "loop", "id": "l", "body": "a", "max_turns": 100, "lasts": "3h"}
    stage = Stage(workflow(loop, act("a", "w"), {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1h"}}))
    stage.event(T0)
    stage.advance(T0 + 99 * H)
    assert [at for _, at in stage.steps] == [0, 3_600, 7_200]
    assert stage.status == "completed"


AWAIT = {"kind": "await", "id": "w", "events": {"opened": "yes"}, "timeout": "1h", "timed_out": "no"}


@pytest.mark.parametrize(
    ("occurred", "read_after_timer", "step_"),
    [(H, False, "yes"), (H + 1, False, "no"), (H, True, "no"), (0, False, "yes"), (-1, False, "no")],
)
def test_borders_of_a_wait(occurred: int, read_after_timer: bool, step_: str) -> None:
    stage = Stage(workflow(AWAIT, act("yes"), act("no")))
    stage.event(T0)
    if read_after_timer:
        stage.advance(T0 + H)
    stage.event(T0 + occurred, "opened")
    stage.advance(T0 + 9 * H)
    assert [s for s, _ in stage.steps] == [step_]


def test_a_wait_ends_at_its_own_time_whenever_that_is_read() -> None:
    wait = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1h"}, "next": "a"}
    stage = Stage(workflow(wait, act("a", "v"), {**wait, "id": "v", "next": "b"}, act("b")))
    stage.event(T0)
    stage.advance(T0 + 500 * H)
    assert stage.steps == [("a", 3_600), ("b", 7_200)]


@pytest.mark.parametrize("crash", [False, True])
def test_a_wait_that_ends_one_branch_says_nothing_and_the_other_goes_on(crash: bool) -> None:
    short, long = ({"kind": "wait", "id": i, "until": {"kind": "span", "span": i}} for i in ("1h", "2h"))
    stage = Stage(
        workflow({"kind": "parallel", "id": "p", "branches": ["1h", "2h"]}, short, {**long, "next": "a"}, act("a"))
    )
    stage.event(T0)
    stage.advance(T0 + H)
    if crash:
        stage.crash()
    (run,) = stage.desk.runs("acme", "user:u")
    assert [t.node for t in run.tokens] == ["2h"]
    stage.advance(T0 + 9 * H)
    assert stage.steps == [("p:1/a", 7_200)] and stage.status == "completed"


def test_an_event_just_before_the_run_counts_where_the_wait_looks_back_and_only_once() -> None:
    first, second = (
        {**AWAIT, "id": i, "look_back": "10m", "events": {"opened": to}} for i, to in (("w", "v"), ("v", "yes"))
    )
    stage = Stage(workflow(first, second, act("yes"), act("no")))
    stage.event(T0 - 60 * S, "opened")
    stage.event(T0)
    (run,) = stage.desk.runs("acme", "user:u")
    assert [t.node for t in run.tokens] == ["v"]
    stage.event(T0 + S, "opened")
    assert [s for s, _ in stage.steps] == ["yes"]


def test_an_older_event_is_too_old_to_look_back_at() -> None:
    stage = Stage(workflow({**AWAIT, "look_back": "10m"}, act("yes"), act("no")))
    stage.event(T0 - 601 * S, "opened")
    stage.event(T0)
    stage.advance(T0 + 2 * H)
    assert [s for s, _ in stage.steps] == ["no"]


def test_what_was_told_long_after_it_happened_waits_for_its_receipts_and_they_take_no_time() -> None:
    """Months pass in seconds, deliveries are of the present: no try is given up for that, nor does the run leave its time."""
    tried = act("a", "w", wait="delivery", timeout="1h", retry={"attempts": 2, "pause": "5m"}, failed="c")
    wait = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1h"}, "next": "b"}
    stage = Stage(workflow(tried, wait, act("b"), act("c"), goals=["bought"], lasts="30d"))
    months = 90 * 24 * H
    stage.event(T0, told=T0 + months)
    for status, at in (("rejected", 10), ("delivered", 20)):
        stage.advance(T0 + 24 * H)
        command = [c.id for came in stage.came for c in came.commands][-1]
        stage.came += stage.desk.receipt("acme", "user:u", Receipt(T0 + months + at, command, status, None), T0)
        stage.crash()
    stage.advance(T0 + 25 * H)
    # After a refusal comes the pause, after the delivery the hour, each in the run's own time.
    assert stage.steps == [("a", 0), ("a~2", 300), ("b", 300 + 3_600)]
    assert stage.status == "completed"


def test_until_a_delivery_of_the_present_nothing_else_happens_to_a_run_of_the_past() -> None:
    """What came meanwhile is taken afterwards, each in its time: as if the delivery had been there at once."""
    first = act("a", "w", wait="delivery")
    await_ = {"kind": "await", "id": "w", "events": {"opened": "b"}, "timeout": "2h", "timed_out": "c"}
    stage = Stage(workflow(first, await_, act("b"), act("c", "d"), act("d"), lasts="3h"))
    stage.event(T0, told=T0 + 90 * 24 * H)
    stage.event(T0 + H, "opened", told=T0 + 90 * 24 * H)
    stage.advance(T0 + 24 * H)
    assert stage.steps == [("a", 0)] and stage.status == "running"
    assert stage.came[-1].record.notes[-1].what == "held"
    stage.crash()
    command = stage.came[0].commands[0].id
    stage.came += stage.desk.receipt("acme", "user:u", Receipt(T0 + 91 * 24 * H, command, "delivered"), T0)
    assert stage.steps == [("a", 0), ("b", 3_600)] and stage.status == "completed"
    histories_ = [came.record for came in stage.came]
    assert replay(stage.desk.library, histories_) == []


def test_a_run_that_waits_for_a_delivery_holds_so_much_and_then_goes_on() -> None:
    stage = Stage(workflow(act("a", "b", wait="delivery"), act("b"), lasts="3h"))
    stage.event(T0, told=T0 + 90 * 24 * H)
    for n in range(MOST_HELD):
        (run,) = stage.desk.runs("acme", "user:u")
        assert len(run.held) == n and run.due is None
        stage.event(T0 + n, "opened", told=T0 + 90 * 24 * H)
    (run,) = stage.desk.runs("acme", "user:u")
    assert run.seen["opened"].count == MOST_HELD and not run.held and run.due == T0 + 3 * H
    command = stage.came[0].commands[0].id
    stage.came += stage.desk.receipt("acme", "user:u", Receipt(T0 + 91 * 24 * H, command, "delivered"), T0)
    assert stage.steps == [("a", 0), ("b", 0)] and stage.status == "completed"


def test_a_step_is_tried_again_and_its_commands_are_different_ones() -> None:
    tried = act("a", "b", wait="delivery", retry={"attempts": 2, "pause": "5m"}, failed="c")
    stage = Stage(workflow(tried, act("b"), act("c")))
    stage.event(T0)
    for at in (10, 400):
        command = stage.came[-1].commands[-1].id
        stage.came += stage.desk.receipt("acme", "user:u", Receipt(T0 + at * S, command, "rejected", "404"), T0)
        stage.advance(T0 + (at + 300) * S)
    assert [s for s, _ in stage.steps] == ["a", "a~2", "c"]
    assert len({c.id for came in stage.came for c in came.commands}) == 3


@pytest.mark.parametrize(("answer", "end"), [(True, "yes"), (False, "no"), (None, "late")])
def test_an_approval_has_a_delegate_and_a_deadline(answer: bool | None, end: str) -> None:
    ask = {
        "kind": "approve",
        "id": "ask",
        "request": COMMAND,
        "assignee": "ann",
        "delegate": "bob",
        "delegate_after": "1h",
    }
    ask |= {"deadline": "2h", "approved": "yes", "rejected": "no", "expired": "late"}
    stage = Stage(workflow(ask, act("yes"), act("no"), act("late")))
    stage.event(T0)
    stage.advance(T0 + H)
    assert stage.steps == [("ask", 0), ("ask~delegate", 3_600)]
    if answer is not None:
        run = stage.came[0].record.run
        stage.came += stage.desk.answer(run, Approval(T0 + H + S, "ask", answer, "bob"), T0)
    stage.advance(T0 + 3 * H)
    assert stage.steps[-1][0] == end


def test_what_was_done_is_taken_back_newest_first_once() -> None:
    undo = {**COMMAND, "type": "sales.task.close", "payload": {"of": "{{ command }}"}}
    nodes = [act("a", "b", undo=undo), act("b", "c", undo=undo), {"kind": "compensate", "id": "c", "next": "d"}]
    stage = Stage(workflow(*nodes, {"kind": "compensate", "id": "d"}))
    stage.event(T0)
    assert [s for s, _ in stage.steps] == ["a", "b", "b~undo", "a~undo"]
    commands = [c for came in stage.came for c in came.commands]
    assert commands[2].payload == {"of": commands[1].id}


def test_a_cancelled_run_takes_its_commands_back_where_that_is_asked() -> None:
    wait = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "9d"}}
    stage = Stage(workflow(act("a", "w", undo=COMMAND), wait))
    stage.event(T0)
    run = stage.came[0].record.run
    stage.came += stage.desk.cancel(run, Cancel(T0 + S, "ann", True), T0)
    assert [s for s, _ in stage.steps] == ["a", "a~undo"] and stage.status == "cancelled"
    assert len(stage.desk) == 0 and stage.desk.due is None


def test_ids_are_made_of_run_node_and_turn_not_of_versions() -> None:
    for version in (1, 7):
        stage = Stage(workflow({"kind": "loop", "id": "l", "body": "a", "max_turns": 1}, act("a"), version=version))
        stage.event(T0)
        assert stage.came[0].commands[0].id == command_id("acme", "w", "user:u", "e1", "l:1/a")


def test_a_run_keeps_the_version_it_began_with_over_a_restart() -> None:
    wait = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1d"}, "next": "a"}
    stage = Stage(workflow(wait, act("a")))
    stage.event(T0)
    stage.catalogue.put(workflow(wait, act("a", "b"), act("b"), version=2, reentry="parallel"))
    rows = {row: value for row, value in stage.desk.rows() if value is not None}
    again = Stage()
    again.number = 1
    again.desk = Desk(Shelf(stage.catalogue))
    for row, value in rows.items():
        again.desk.load(row, value)
    again.desk.loaded()
    again.event(T0 + S)
    again.advance(T0 + 99 * H)
    assert [s for s, _ in again.steps] == ["a", "a", "b"]
    left = {row[0] for row, value in again.desk.rows() if value is not None}
    assert left == set(), "nothing stays of runs that are over"


def test_a_template_that_fails_stops_its_own_run_only() -> None:
    broken = {**COMMAND, "title": "{{ nothing }}"}
    stage = Stage(workflow({**act("a"), "command": broken}), workflow(act("b"), name="v", id="v"))
    stage.event(T0)
    assert [s for s, _ in stage.steps] == ["b"]
    assert sorted(c.record.status for c in stage.came) == ["completed", "failed"]


def test_step_leaves_the_run_that_it_is_given_as_it_was() -> None:
    stage = Stage(workflow(AWAIT, act("yes"), act("no")))
    graph = stage.desk._shelf.triggered("acme", "events.usage", "", "user:u", T0, {"type": "go"})[0]
    library = stage.desk.library
    run, _ = begin(library, graph, "acme", Start(T0, "e", "user:u", "shop", {"type": "go"}), T0)
    before = pack(run)
    for job in (Event(T0 + S, "x", "events.usage", {"type": "opened"}), Timer(T0 + 2 * H)):
        after, effects = step(library, run, job, T0)
        assert effects and after != run
        assert pack(run) == before and unpack(before) == run
        assert (after, effects) == step(library, run, job, T0)


def test_a_run_of_a_thousand_steps_and_one_that_never_ends() -> None:
    long = [act(f"n{i}", f"n{i + 1}") for i in range(1_000)]
    stage = Stage(workflow(*long, act("n1000")))
    stage.event(T0)
    assert len(stage.steps) == 1_001 and stage.status == "completed"
    outer = {"kind": "loop", "id": "o", "body": "i", "max_turns": 1_000}
    inner = {"kind": "loop", "id": "i", "body": "c", "max_turns": 1_000}
    stage = Stage(workflow(outer, inner, {"kind": "compensate", "id": "c"}))
    stage.event(T0)
    assert stage.status == "failed" and stage.came[-1].record.outcome == "too_many_steps"


def test_a_parked_run_is_small() -> None:
    stage = Stage(workflow({**AWAIT, "timeout": "30d"}, act("yes"), act("no")))
    stage.event(T0, product="shop", user="someone", email="someone@example.org", text="x" * 5_000)
    (value,) = [v for row, v in stage.desk.rows() if row[0] == "run" and v is not None]
    assert len(value) <= 1_000


@pytest.mark.parametrize(("reentry", "begun"), [("skip", 1), ("restart", 3), ("parallel", 3), ("once", 1)])
def test_reentry(reentry: str, begun: int) -> None:
    wait = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1d"}}
    stage = Stage(workflow(act("a", "w"), wait, reentry=reentry))
    for n in range(3):
        stage.event(T0 + n * S)
    assert len(stage.steps) == begun
    assert len(stage.desk) == {"restart": 1, "parallel": 3}.get(reentry, 1)
    stage.advance(T0 + 99 * H)
    stage.event(T0 + 100 * H)
    assert len(stage.steps) == begun + (reentry != "once")


def test_carts_of_one_subject_do_not_know_each_other() -> None:
    same = {"bought": {"where": {"kind": "compare", "field": "type", "op": "==", "value": "bought"}, "same": ["cart"]}}
    wait = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1d"}, "next": "a"}
    stage = Stage(workflow(wait, act("a"), key=["cart"], events=same, goals=["bought"]))
    for cart in ("c1", "c2", "c1"):
        stage.event(T0, cart=cart)
    stage.event(T0 + S, "bought", cart="c2")
    assert [r.facts["cart"] for r in stage.desk.runs("acme", "user:u")] == ["c1"]
