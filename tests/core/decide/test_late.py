"""Late data: what is revised or taken back, once, whatever the batches and however often corrections are repeated."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.batch import Batch
from core.decide.signals import SignalsTask
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from schemas.commands import Command, command_id
from schemas.definitions import CommandTemplate, Pause, Rule, Threshold
from schemas.registers import Clock, Patch, Registers, Signal, encode
from tests.helpers.words import a_batch

HOUR, MINUTE = 3_600_000, 60_000
END = 1_767_225_600_000
UNDO = CommandTemplate(
    type="product.banner.hide", title="Hide it", text="{{ reason }}", payload={"of": "{{ command }}"}
)
SHOW = CommandTemplate(type="product.banner.show", title="{{ value }} users", text="{{ reason }}")


def batch(topic: str, values: list[bytes], first: int = 0, at: int = END) -> Batch:
    return a_batch(topic, values, first=first, at=at)


def commands(effects: list[Effect]) -> list[Command]:
    return [
        Command.model_validate_json(e.value or b"")
        for e in effects
        if isinstance(e, Emit) and e.topic.startswith("commands.")
    ]


def restarted(task: Any, state: dict[bytes, bytes | None], fresh: Any) -> Any:
    for key, value in task.drain():
        state[key] = value
    for key, value in state.items():
        fresh.load(key, value)
    fresh.loaded()
    return fresh


# --- figures ----------------------------------------------------------------------------------------------------------


def a_catalogue(late: str, **more: object) -> Catalogue:
    catalogue = Catalogue()
    catalogue.put(
        Threshold.model_validate({"name": "few", "metric": "active_users", "window": "1h", "op": "<", "limit": 10})
    )
    rule = {"name": "r", "id": "r", "trigger": {"kind": "threshold", "threshold": "few"}, "command": SHOW}
    catalogue.put(Rule.model_validate({**rule, "undo": UNDO, "late": late, **more}))
    return catalogue


def usage(end: int, users: int, version: int = 0, clock: int | None = None) -> bytes:
    number = struct.pack("<q", users)
    return encode(
        Registers(
            source="events.usage",
            partition=0,
            tenant="acme",
            product="shop",
            names=["*"],
            columns=["users", "events", "organic"],
            patches=[Patch("1h", end, version, struct.pack("<q", 0), [number] * 3)],
            clock=end if clock is None else clock,
            act=True,
        )
    )


def clocks(at: int) -> list[bytes]:
    return [
        encode(Clock(source=s, partition=0, at=at, replaying=False)) for s in ("events.usage", "events.performance")
    ]


def story(*corrected: int, quiet: int = 30 * MINUTE) -> list[bytes]:
    """Version 0 says 8 users at `END`; then later versions; then time passes."""
    rows = [usage(END - MINUTE, 20), usage(END, 8), *clocks(END + MINUTE)]
    rows += [usage(END, users, 1, END + 2 * MINUTE) for users in corrected]
    return [*rows, *clocks(END + 5 * MINUTE), *clocks(END + quiet)]


def fold(rows: list[bytes], catalogue: Catalogue, cuts: list[int] | None = None, restart: bool = False) -> list[Effect]:
    task, state, effects = RegistersTask(0, 1, catalogue), {}, []
    bounds = [0, *sorted({c % len(rows) for c in cuts or []}), len(rows)]
    for a, b in pairwise(bounds):
        effects += task.step(batch("meter.registers", rows[a:b], a))
        assert task.actor.books.difference == 0
        if restart:
            task = restarted(task, state, RegistersTask(0, 1, catalogue))
    return effects


def test_a_command_that_would_not_have_been_is_taken_back() -> None:
    effects = fold(story(12), a_catalogue("compensate"))
    given, undo = commands(effects)
    assert given.type == "product.banner.show" and given.title == "8.0 users" and given.revises is None
    assert undo.type == "product.banner.hide" and undo.payload == {"of": given.id} and not undo.stands
    assert undo.revises == given.id and undo.id == command_id("acme", "r", "product:shop", given.cause, "undo")
    assert undo.cause == given.cause and "would not have been found" in undo.text
    assert Count("uptake_revisions_total", 1, ("r", "undo")) in effects


def test_a_command_whose_numbers_changed_is_given_again_corrected() -> None:
    given, again = commands(fold(story(12, 9), a_catalogue("revise")))
    assert (again.type, again.title, again.revises, again.stands) == (given.type, "9.0 users", given.id, True)
    assert again.id == command_id("acme", "r", "product:shop", given.cause, "revised") and again.step == "revised"
    assert "would be found all the same" in again.why.reason
    _, fallen = commands(fold(story(12), a_catalogue("revise")))
    assert (fallen.title, fallen.stands) == ("12.0 users", False)


@pytest.mark.parametrize(
    ("late", "corrected"), [("drop", (12,)), ("compensate", (9,)), ("compensate", ()), ("revise", ()), ("revise", (8,))]
)
def test_nothing_is_said_where_nothing_follows(late: str, corrected: tuple[int, ...]) -> None:
    assert len(commands(fold(story(*corrected), a_catalogue(late)))) == 1


def test_nothing_is_taken_back_that_was_not_given() -> None:
    catalogue = a_catalogue("compensate", condition={"kind": "compare", "field": "value", "op": "<", "value": 5})
    assert commands(fold(story(12), catalogue)) == []


def test_before_corrections_can_no_longer_come_nothing_is_said() -> None:
    assert len(commands(fold(story(12, quiet=9 * MINUTE), a_catalogue("compensate")))) == 1


def test_a_paused_rule_takes_nothing_back_and_it_is_counted() -> None:
    catalogue = a_catalogue("compensate")
    task = RegistersTask(0, 1, catalogue)
    rows = story(12)
    list(task.step(batch("meter.registers", rows[:4])))
    catalogue.put(Pause(name="rule:r", scope="rule", of="r"))
    effects = list(task.step(batch("meter.registers", rows[4:], 4)))
    assert commands(effects) == [] and task.actor.books.difference == 0
    assert Count("uptake_suppressed_total", 1, (task.actor.step, "paused")) in effects


@settings(deadline=None)
@given(
    st.lists(st.integers(5, 14), max_size=4),
    st.lists(st.integers(0, 99), max_size=5),
    st.booleans(),
    st.sampled_from(["revise", "compensate"]),
    st.integers(1, 3),
)
def test_the_same_log_gives_the_same(
    corrected: list[int], cuts: list[int], restart: bool, late: str, repeats: int
) -> None:
    """Cuts, restarts and how often a correction is repeated (METER does so by the wall clock) change nothing."""
    plain = commands(fold(story(*corrected), a_catalogue(late)))
    often = [c for c in corrected for _ in range(repeats)]
    again = commands(fold(story(*often), a_catalogue(late), cuts, restart))
    assert again == plain and len({c.id for c in plain}) == len(plain)
    final = corrected[-1] if corrected else 8
    wanted = final != 8 if late == "revise" else final >= 10
    assert len(plain) == 1 + wanted


# --- what subjects did ------------------------------------------------------------------------------------------------


def remembering(late: str, kind: str) -> Catalogue:
    catalogue = Catalogue()
    began, ended = (
        {"topic": "events.usage", "where": f'type == "{t}"'} for t in ("cart.created", "purchase.completed")
    )
    trigger: dict[str, object] = {"kind": "absence", "first": began, "then": ended, "within_s": 60}
    if kind == "inactivity":
        trigger = {"kind": "inactivity", **began, "after_s": 60}
    command = CommandTemplate(type="marketing.email.send", title="t", text="t")
    undo = CommandTemplate(
        type="marketing.email.recall", title="t", text="{{ reason }}", payload={"of": "{{ command }}"}
    )
    rule = {"name": "r", "id": "r", "trigger": trigger, "command": command, "undo": undo, "late": late}
    catalogue.put(Rule.model_validate(rule))
    return catalogue


def a_row(at: int, type_: str, cause: str, late: int | None = None) -> bytes:
    return msgspec.json.encode(
        Signal(
            tenant="acme",
            product="shop",
            subject="user:u",
            kind="event",
            cause=cause,
            rules=["r"],
            at=END + at,
            data={"type": type_},
            late=0 if late is None else END + late,
        )
    )


def a_clock(at: int) -> bytes:
    clock = Signal(tenant="acme", product="shop", subject="", kind="clock", cause="", rules=[], at=END + at, data={})
    return msgspec.json.encode(clock)


def seen(rows: list[bytes], catalogue: Catalogue, restart: bool = False) -> list[Effect]:
    task, state, effects = SignalsTask(0, 1, catalogue), {}, []
    for i, row in enumerate(rows):
        effects += task.step(batch("signals", [row], i))
        assert task.actor.books.difference == 0
        if restart:
            task = restarted(task, state, SignalsTask(0, 1, catalogue))
    return effects


@pytest.mark.parametrize("restart", [False, True])
def test_what_came_late_undoes_an_absence_once(restart: bool) -> None:
    rows = [a_row(0, "cart.created", "c"), a_clock(61_000), a_row(30_000, "purchase.completed", "p")]
    rows += [a_row(31_000, "purchase.completed", "q"), a_clock(70_000)]
    given, undo = commands(seen(rows, remembering("compensate", "absence"), restart))
    assert (undo.type, undo.payload, undo.revises) == ("marketing.email.recall", {"of": given.id}, given.id)
    assert "(p)" in undo.text


@pytest.mark.parametrize(
    "late_row",
    [
        a_row(60_001, "purchase.completed", "after the deadline"),
        a_row(30_000, "cart.created", "another beginning"),
        a_row(0, "purchase.completed", "before it began"),
    ],
)
def test_what_would_have_changed_nothing_undoes_nothing(late_row: bytes) -> None:
    rows = [a_row(0, "cart.created", "c"), a_clock(61_000), late_row, a_clock(70_000)]
    assert len(commands(seen(rows, remembering("compensate", "absence")))) == 1


def test_ten_minutes_later_nothing_is_undone() -> None:
    rows = [a_row(0, "cart.created", "c"), a_clock(61_000), a_clock(700_000), a_row(30_000, "purchase.completed", "p")]
    rows += [a_clock(705_000)]
    assert len(commands(seen(rows, remembering("compensate", "absence")))) == 1
    rows[2] = a_clock(650_000)
    assert len(commands(seen(rows, remembering("compensate", "absence")))) == 2


@settings(deadline=None)
@given(st.data(), st.sampled_from(["absence", "inactivity"]), st.booleans())
def test_a_late_row_counts_the_same_wherever_it_comes_between_clocks(
    data: st.DataObject, kind: str, restart: bool
) -> None:
    """METER says at which event time a row came too late. DECIDE, told of event time by all partitions, hears it anywhere before."""
    late = data.draw(st.lists(st.tuples(st.integers(-5, 105), st.integers(1, 26)), min_size=1, max_size=6))
    words = [
        (step * 5_000, i, a_row(at * 1_000, "cart.created" if i % 2 else "purchase.completed", f"l{i}", step * 5_000))
        for i, (at, step) in enumerate(late)
        if at < step * 5
    ]
    on_time = [(0, -2, a_row(0, "cart.created", "c")), (40_000, -1, a_row(41_000, "cart.created", "d"))]
    clocks_ = [(at, 99, a_clock(at)) for at in range(5_000, 205_000, 5_000)]
    in_order = [row for _, _, row in sorted([*on_time, *words, *clocks_])]
    # As if another partition had held everything back until some time: clocks before it are not told.
    held = data.draw(st.integers(1, 39)) * 5_000
    behind = [
        row for at, n, row in sorted([*on_time, *words, *clocks_], key=lambda w: (w[0], w[1])) if n != 99 or at > held
    ]
    catalogue = remembering("compensate", kind)
    plain, other = commands(seen(in_order, catalogue, restart)), commands(seen(behind, catalogue))
    assert [c.id for c in other] == [c.id for c in plain]


def test_inactivity_goes_on_from_the_late_row() -> None:
    rows = [a_row(0, "cart.created", "c"), a_clock(61_000), a_row(30_000, "cart.created", "d"), a_clock(91_000)]
    given, undo, later = commands(seen(rows, remembering("compensate", "inactivity")))
    assert undo.revises == given.id
    assert later.type == given.type and later.cause == f"d+{END + 90_000}" and later.revises is None


def test_revised_it_says_that_it_does_not_stand() -> None:
    rows = [a_row(0, "cart.created", "c"), a_clock(61_000), a_row(30_000, "purchase.completed", "p"), a_clock(70_000)]
    given, again = commands(seen(rows, remembering("revise", "absence")))
    assert (again.type, again.revises, again.stands) == (given.type, given.id, False)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"late": "compensate", "trigger": {"kind": "stage", "stages": ["low"]}},
            "compensating needs the command's `undo`",
        ),
        ({"late": "revise", "trigger": {"kind": "event", "topic": "events.usage"}}, "is never corrected"),
        ({"late": "revise", "trigger": {"kind": "band", "bands": ["critical"]}}, "is never corrected"),
    ],
)
def test_refused(more: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Rule.model_validate({"name": "r", "id": "r", "command": SHOW, **more})
