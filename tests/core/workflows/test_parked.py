"""Parked runs: what the indexes say is what a list of all runs says, whatever came, went, moved, and was recovered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.workflows import parked
from core.workflows.parked import Parked, pins_of
from core.workflows.run import Run, Token, pack, unpack
from core.workflows.timers import Timers

MINUTE = 60_000
NAMES = [f"r{i}" for i in range(8)]
_due = st.one_of(st.none(), st.integers(0, 3 * MINUTE), st.integers(0, 10**10))
_deed = st.tuples(st.sampled_from(NAMES), st.sampled_from(["keep", "keep", "keep", "drop", "wake", "restart"]), _due)


def a_run(name: str, due: int | None) -> Run:
    number = NAMES.index(name)
    fields: dict[str, Any] = {
        **{"id": name, "tenant": "acme" if number % 2 else "globex", "product": "app", "workflow": "w"},
        **{
            "pins": {"": number % 3},
            "subject": f"user:u{number // 4}",
            "cause": "c",
            "key": "[]",
            "began": 0,
            "clock": 0,
        },
        **{"facts": {"n": {"m": [1, "x"]}}, "tokens": [Token(1, "n", 0, None), Token(2, "n", 0, due)]},
    }
    return Run(**fields, ends_at=due if number == 7 else None)


@settings(deadline=None)
@given(st.lists(_deed, max_size=60))
def test_the_indexes_say_what_all_runs_say(deeds: list[tuple[str, str, int | None]]) -> None:
    held, plain, clock = Parked(), dict[str, Run](), 0
    for name, what, due in deeds:
        if what == "keep":
            before = plain[name].due if name in plain else None
            plain[name] = run = a_run(name, None if due is None else max(due, clock + 1))
            held.keep(run, pack(run), before)
        elif what == "drop":
            held.drop(a_run(name, None))
            plain.pop(name, None)
        elif what == "restart":
            held = recovered(held, plain)
        else:
            clock = max(clock, due or 0)
            woken = dict[str, int]()
            while (one := held.wake(clock)) is not None:
                at, who = one
                if plain[who].due == at:
                    woken[who] = at
                    plain[who] = run = a_run(who, None)
                    held.keep(run, pack(run), at)
            assert not [r for r in plain.values() if r.due is not None and r.due <= clock]
            assert list(woken.items()) == sorted(woken.items(), key=lambda w: (w[1], w[0]))
        for tenant, subject in {(r.tenant, r.subject) for r in (a_run(n, None) for n in NAMES)}:
            mine = [r.id for r in plain.values() if (r.tenant, r.subject) == (tenant, subject)]
            assert sorted(held.of(tenant, subject)) == sorted(mine)
        assert len(held) == len(plain) and set(held.subjects()) == {(r.tenant, r.subject) for r in plain.values()}
        times = [r.due for r in plain.values() if r.due is not None]
        assert not times or (held.due is not None and held.due <= min(times))


def recovered(held: Parked, plain: dict[str, Run]) -> Parked:
    again = Parked()
    for name in [*NAMES, *plain]:  # old rows first, and some that were deleted later
        again.load(name, pack(a_run(name, 5)))
    for name in NAMES:
        again.load(name, held.packed(name))
    pinned = again.loaded()
    assert sum(pinned.values()) == len(plain) and set(pinned) == {pins_of(r) for r in plain.values()}
    return again


def test_a_row_that_is_no_run_is_refused() -> None:
    held = Parked()
    held.load("r1", b"\x93\x01")
    with pytest.raises(msgspec.MsgspecError):
        held.loaded()


def test_timers_of_runs_that_went_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked, "_SLACK", 10)
    held = Parked()
    for turn in range(1_000):
        run = a_run(NAMES[turn % 4], MINUTE * (turn + 5))
        held.keep(run, pack(run))
        if turn % 4:
            held.drop(run)
    assert len(held._timers) <= 20
    assert [unpack(held.packed(n) or b"").due for n in held.of("globex", "user:u0")] == [held.due]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from(NAMES))))
def test_timers_come_in_order(entries: list[tuple[int, str]]) -> None:
    timers, found = Timers(), []
    for due, name in entries:
        timers.put(due, name)
    while (first := timers.first()) is not None:
        found.append(first)
        timers.pop()
    assert found == sorted(entries) and len(timers) == 0
