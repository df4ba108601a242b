"""New versions while runs wait: who keeps theirs, who follows, who moves, who may enter; however reading and time interleave."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.effects import DeadLetter, Emit
from core.meter.signals import Signals
from core.workflows.graph import Library
from core.workflows.jobs import Record
from core.workflows.publishing import announcement, with_earlier
from core.workflows.replay import replay
from core.workflows.testing import histories
from schemas.definitions import Workflow
from tests.core.workflows.build import COMMAND, T0, H, S, act, workflow
from tests.core.workflows.test_task import Runner

HOUR = {"kind": "span", "span": "1h"}


def wait(id_: str = "w", next_: str | None = "b") -> dict[str, Any]:
    return {"kind": "wait", "id": id_, "until": HOUR, "next": next_}


def listen(id_: str = "w", to: str | None = "b", **more: Any) -> dict[str, Any]:
    return {"kind": "await", "id": id_, "events": {"opened": to}, "timeout": "1h", "timed_out": None, **more}


def version(number: int, *nodes: dict[str, Any], **more: Any) -> Workflow:
    return workflow(*nodes, **more).model_copy(update={"version": number})


class Told(Runner):
    """A task to which versions are published as `app.definitions` does it."""

    def publish(self, after: Workflow, at: int, seen: bool = True) -> None:
        known = (*self.catalogue.of(Workflow), *self.catalogue.retired())
        before = next(w for w in known if w.name == after.name)
        after = with_earlier(before, after)
        signal = announcement(before, after, at, "ann")
        if signal is not None:
            self.take("signals", msgspec.json.encode(signal))
        if seen:
            self.catalogue.put(after)

    def until(self, at: int) -> None:
        self.clock(at)
        self.tick()
        self.tick()

    @property
    def history(self) -> list[Record]:
        encoded = [e.value or b"" for e in self.effects if isinstance(e, Emit) and e.topic == "runs"]
        return [msgspec.json.decode(value, type=Record) for value in encoded]

    def notes(self, *kinds: str) -> list[dict[str, Any]]:
        return [n.detail for r in self.history for n in r.notes if n.what in kinds]


FIRST = version(1, act("a", "w"), wait(), act("b"))


@pytest.mark.parametrize(
    ("policy", "steps", "versions"),
    [("pin", ["a", "a", "b", "c"], [1, 2]), ("follow", ["a", "a", "c", "c"], [2, 2]), ("drain", ["a", "b"], [1])],
)
def test_what_becomes_of_runs_that_wait(policy: str, steps: list[str], versions: list[int]) -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(version(2, act("a", "w"), wait(next_="c"), act("c"), publish=policy), T0 + S)
    run.signal("go", T0 + 2 * S, subject="user:v")
    run.until(T0 + 2 * H)
    assert sorted(map(str, run.steps)) == steps
    ended = {r.subject: r for r in run.history if r.status == "completed"}
    assert [ended[s].versions[""] for s in sorted(ended)] == versions
    assert {r.outcome for r in ended.values()} == {""} and len(run.task.desk) == 0
    run.signal("go", T0 + 3 * H, subject="user:x")
    assert run.history[-1].versions[""] == 2, "whoever comes when the old ones have ended enters the new one"


def test_those_whose_node_is_gone_stay_and_are_told_of() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(version(2, act("a", "x"), wait("x"), act("b"), publish="follow"), T0 + S)
    run.until(T0 + 2 * S)
    assert run.notes("kept") == [{"version": 2, "reason": "no_such_node", "node": "w"}]
    run.restart()
    run.until(T0 + 2 * H)
    assert run.steps == ["a", "b"] and run.history[-1].versions == {"": 1}
    assert len(run.notes("kept")) == 1, "it is offered once"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([act("x", "w"), wait(next_="a"), act("a")], "would_repeat"),
        ([act("a", "w"), listen(), act("b")], "another_kind"),
        (
            [{"kind": "loop", "id": "l", "max_turns": 2, "body": "w", "next": "b"}, wait(next_=None), act("b")],
            "stands_elsewhere",
        ),
    ],
)
def test_where_a_run_does_not_fit_it_keeps_its_version(nodes: list[dict[str, Any]], reason: str) -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(version(2, *nodes, publish="follow"), T0 + S)
    run.until(T0 + 2 * H)
    assert [k["reason"] for k in run.notes("kept")] == [reason]
    assert run.steps == ["a", "b"]


def test_a_command_of_two_versions_before_is_not_given_again() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(version(2, wait(next_="c"), act("c"), publish="follow"), T0 + S)
    run.until(T0 + 2 * S)
    run.publish(version(3, wait(next_="a"), act("a"), publish="follow"), T0 + 3 * S)
    run.until(T0 + 2 * H)
    assert [n["to"] for n in run.notes("moved")] == [2] and run.notes("kept")[0]["reason"] == "would_repeat"
    assert run.steps == ["a", "c"]


def test_migration_goes_on_waiting_in_the_same_kind_and_enters_another() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    mapped = {"publish": "migrate", "migrate": {"w": "pause"}}
    run.publish(version(2, act("a", "pause"), wait("pause", "hello"), act("hello"), **mapped), T0 + S)
    run.until(T0 + H)
    assert run.steps == ["a", "hello"], "the hour that had begun goes on"
    run = Told(FIRST)
    run.signal("go", T0)
    mapped["migrate"] = {"w": "hello"}
    run.publish(version(2, act("a", "hello"), act("hello", "pause"), wait("pause"), act("b"), **mapped), T0 + S)
    run.until(T0 + 2 * S)
    assert run.steps == ["a", "hello"]
    commands = run.emitted("commands.sales")
    assert commands[-1]["issued_at"] == T0 + S and commands[-1]["rule_version"] == 2
    run.until(T0 + H + S)
    assert run.steps == ["a", "hello", "b"]


def test_goals_are_those_of_the_entry() -> None:
    run = Told(version(1, act("a", "w"), wait(), act("b"), goals=["bought"]))
    run.signal("go", T0)
    second = version(
        2, act("a", "w"), wait(), act("b"), goals=["opened"], events={"opened": {"where": None}}, publish="follow"
    )
    run.publish(second, T0 + S)
    run.signal("opened", T0 + 2 * S)
    assert [r.status for r in run.history] == ["running", "running", "running"]
    run.signal("bought", T0 + 3 * S)
    assert (run.history[-1].status, run.history[-1].outcome) == ("goal", "bought")
    assert run.history[-1].versions == {"": 2, "^": 1}


def test_meter_goes_on_sending_what_earlier_versions_wait_for() -> None:
    before = version(1, listen(), act("b"))
    after = with_earlier(before, version(2, act("b"), events={}))
    assert [p.where for p in after.earlier] == [before.events["opened"].where, before.events["bought"].where]
    again = with_earlier(after, version(3, act("b")))
    assert again.earlier == [], "it names them itself"
    catalogue = Catalogue()
    catalogue.put(after.model_copy(update={"trigger": workflow(act("a")).trigger}))
    assert Signals("events.usage", catalogue).watch() is not None


def test_a_version_takes_effect_at_its_time_not_when_it_is_read() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(version(2, act("a", "w"), wait(next_="c"), act("c"), publish="follow"), T0 + 2 * H)
    run.until(T0 + 3 * H)
    assert run.steps == ["a", "b"]


def test_a_worker_that_has_not_read_the_definition_yet_begins_the_new_one_all_the_same() -> None:
    run = Told(FIRST)
    run.publish(version(2, act("c"), publish="follow"), T0, seen=False)
    run.signal("go", T0 + S)
    run.until(T0 + 2 * S)
    run.signal("go", T0 + 3 * S, subject="user:v")
    assert run.steps == ["c", "c"]


def test_a_publication_that_is_none_is_set_aside() -> None:
    run = Told(FIRST)
    run.signal("x", T0, kind="publish", data={"definition": {"kind": "rule"}})
    run.signal("x", T0, kind="publish", data={})
    assert [e.reason for e in run.effects if isinstance(e, DeadLetter)] == ["invalid", "invalid"]


SECOND = version(
    2,
    act("a", "w"),
    listen(to="c"),
    act("c", "w2"),
    wait("w2", "d"),
    act("d"),
    publish="follow",
    events={"opened": {"where": None}},
)
LISTENS = version(1, act("a", "w"), listen(), act("b"), events={"opened": {"where": None}})
_word = st.one_of(
    st.tuples(st.just("event"), st.integers(0, 5), st.integers(1, 90)),
    st.tuples(st.just("tick"), st.just(0), st.integers(1, 90)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
)


def _live(words: Iterable[tuple[str, int, int]], lazy: bool) -> dict[str, list[Any]]:
    """Each subject's commands, with a version published at minute 30. `lazy`: time is read at the end only."""
    run = Told(LISTENS)
    for n in range(6):
        run.signal("go", T0 + n * S, subject=f"user:u{n}", cause=f"go-{n}")
    minutes = sorted({30, *(m for kind, _, m in words if kind == "event")})
    at = {m: [n for kind, n, minute in words if kind == "event" and minute == m] for m in minutes}
    for i, minute in enumerate(minutes):
        if minute == 30:
            run.publish(SECOND, T0 + 30 * 60 * S)
        for k, n in enumerate(at[minute]):
            run.signal("opened", T0 + minute * 60 * S + 1 + k, subject=f"user:u{n}", cause=f"o-{minute}-{k}")
        if not lazy:
            run.until(T0 + minute * 60 * S)
        if not lazy and ("restart", 0, 0) in words and i % 2:
            run.restart()
    run.until(T0 + 4 * H)
    found: dict[str, list[Any]] = {}
    for command in run.emitted("commands.sales"):
        found.setdefault(str(command["subject"]), []).append((command["step"], command["issued_at"], command["id"]))
    library = Library()
    for one in (LISTENS, with_earlier(LISTENS, SECOND)):
        library.put(one)
    for history in histories(run.history).values():
        assert replay(library, history) == []
    ids = [c["id"] for c in run.emitted("commands.sales")]
    assert len(ids) == len(set(ids))
    return found


@settings(deadline=None, max_examples=40)
@given(st.lists(_word, max_size=12))
def test_the_same_log_gives_the_same_commands_whenever_time_is_read(words: list[tuple[str, int, int]]) -> None:
    assert _live(words, lazy=False) == _live(words, lazy=True)


def test_many_runs_move_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.workflows.task.MOST_A_TICK", 3)
    run = Told(FIRST)
    for n in range(10):
        run.signal("go", T0, subject=f"user:u{n}")
    run.publish(version(2, act("a", "w"), wait(next_="c"), act("c"), publish="follow"), T0 + S)
    run.clock(T0 + 2 * S)
    run.tick()
    run.tick()
    assert len(run.notes("moved")) == 3
    assert run.task.wake_at() is not None, "the rest goes on at once"
    run.restart()
    for _ in range(6):
        run.tick()
    assert len(run.notes("moved")) == 10
    assert [k for k in run.state if b"publish" in k] != []
    run.restart()
    assert [k for k in run.state if b"publish" in k] == []
    run.until(T0 + 2 * H)
    run.tick()
    for _ in range(6):
        run.tick()
    assert sorted(map(str, run.steps)) == ["a"] * 10 + ["c"] * 10


# --- people's words to single runs ------------------------------------------------------------------------------------


def told(run: Told, kind: str, at: int, **data: Any) -> None:
    (first,) = {r.run for r in run.history}
    run.signal("x", at, kind=kind, data={"run": first, "by": "ann", **data})


def test_a_paused_run_orders_nothing_and_goes_on_from_when_it_is_resumed() -> None:
    run = Told(version(1, act("a", "w"), wait(), act("b", "w2"), wait("w2", "c"), act("c")))
    run.signal("go", T0)
    told(run, "pause", T0 + S)
    told(run, "pause", T0 + 2 * S)
    run.until(T0 + 3 * H)
    run.restart()
    assert run.steps == ["a"] and run.history[-1].paused
    told(run, "resume", T0 + 4 * H)
    assert run.steps == ["a", "b"] and not run.history[-1].paused
    run.until(T0 + 4 * H + 30 * 60 * S)
    assert run.steps == ["a", "b"], "the next hour begins now"
    run.until(T0 + 5 * H)
    assert run.steps == ["a", "b", "c"]
    library = Library()
    library.put(version(1, act("a", "w"), wait(), act("b", "w2"), wait("w2", "c"), act("c")))
    assert replay(library, run.history) == []


def test_what_comes_while_it_stands_still_counts_when_it_goes_on() -> None:
    run = Told(version(1, act("a", "w"), listen(), act("b")))
    run.signal("go", T0)
    told(run, "pause", T0 + S)
    run.signal("opened", T0 + 2 * S)
    assert run.steps == ["a"]
    told(run, "resume", T0 + 2 * H)
    assert run.steps == ["a", "b"]
    run = Told(version(1, act("a", "w"), listen(), act("b")))
    run.signal("go", T0)
    told(run, "pause", T0 + S)
    run.signal("opened", T0 + H + S)
    told(run, "resume", T0 + 2 * H)
    assert run.steps == ["a"] and run.history[-1].status == "completed", "the wait had ended before"


def test_a_goal_ends_a_paused_run_and_a_receipt_waits() -> None:
    run = Told(version(1, act("a", "b", wait="delivery"), act("b"), goals=["bought"]))
    run.signal("go", T0)
    told(run, "pause", T0 + S)
    (command,) = run.emitted("commands.sales")
    receipt = {"tenant": "acme", "subject": "user:u", "command": command["id"], "status": "delivered"}
    run.take("receipts", json.dumps({**receipt, "final": True, "at": T0 + 2 * S}).encode())
    assert run.steps == ["a"] and run.notes("held") == [{"job": "receipt"}]
    run.restart()
    told(run, "resume", T0 + 3 * S)
    assert run.steps == ["a", "b"]
    run = Told(version(1, act("a", "w"), wait(), goals=["bought"]))
    run.signal("go", T0)
    told(run, "pause", T0 + S)
    run.signal("bought", T0 + 2 * S)
    assert run.history[-1].status == "goal"


def test_one_run_can_be_moved_to_the_version_in_force() -> None:
    run = Told(FIRST)
    run.signal("go", T0)
    run.publish(version(2, act("a", "v"), wait("v", "c"), act("c")), T0 + S)
    told(run, "move", T0 + 2 * S, nodes={"w": "v"})
    run.until(T0 + 2 * H)
    assert run.steps == ["a", "c"]
    bad = {"run": 5}
    run.signal("x", T0, kind="move", data=bad)
    assert [e.reason for e in run.effects if isinstance(e, DeadLetter)] == ["invalid"]


def test_a_run_in_a_called_workflow_stays_in_its_version_of_it() -> None:
    inner = version(1, wait("i", "j"), act("j")).model_copy(update={"name": "inner", "id": "inner"})
    outer = version(1, {"kind": "call", "id": "k", "workflow": "inner", "next": "b"}, act("b"))
    run = Told(inner, outer)
    run.signal("go", T0, workflows=["w"])
    before = len({r.run for r in run.history})
    run.catalogue.put(version(2, wait("i", "z"), act("z")).model_copy(update={"name": "inner", "id": "inner"}))
    changed = version(2, {"kind": "call", "id": "k", "workflow": "inner", "next": "c"}, act("c"), publish="follow")
    run.publish(changed, T0 + S)
    run.until(T0 + 2 * H)
    mine = [c["step"] for c in run.emitted("commands.sales") if c["rule"] == "w"]
    assert before == 2 and mine == ["k:0/j", "c"]
    assert COMMAND["type"] == "sales.task.create"


def test_a_workflow_is_begun_by_its_name_or_id_because_somebody_asks() -> None:
    run = Told(FIRST.model_copy(update={"id": "by-id"}))
    for n, name in enumerate(("w", "by-id", "nobody", "w")):
        about = {"workflows": [name], "cause": f"k{n % 3}", "subject": f"user:u{n % 3}", "topic": None}
        run.signal("x", T0 + n, kind="trigger", data={"cart": "c"}, **about)
    assert run.steps == ["a", "a"], "the same key again begins nothing"
    assert {r.subject for r in run.history} == {"user:u0", "user:u1"}
