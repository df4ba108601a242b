"""The engine against the oracle: a slice of `python -m tests.workflows`, and proof that a broken engine is noticed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from core.definitions import Catalogue
from core.people.people import People
from core.workflows import step as stepping
from core.workflows.desk import Came, Desk, Occurrence
from core.workflows.entries import Entries
from core.workflows.jobs import Receipt
from core.workflows.nodes import HANDLERS, acting, bodies, choosing, waiting
from core.workflows.nodes.base import Go
from core.workflows.run import Run
from core.workflows.shelf import Shelf
from schemas.workflows import NODES
from tests.workflows.world import HOUR, T0, TYPES, Maker, World

WORKFLOWS, SUBJECTS = 50, 100


def test_every_decision_is_the_oracles() -> None:
    kinds: set[str] = set()
    statuses: Counter[str] = Counter()
    commands = crashes = retired = asking = past = aliased = 0
    for seed in range(WORKFLOWS):
        world = World(seed).run(SUBJECTS)
        assert world.differences == []
        kinds |= world.kinds
        statuses.update(world.statuses)
        commands, crashes = commands + world.commands, crashes + world.crashes
        retired, asking, past = retired + world.retired, asking + world.asking, past + world.past
        aliased += world.aliased
    assert kinds == set(HANDLERS), "every kind of node takes part"
    assert set(statuses) == {"completed", "goal", "exited", "expired", "cancelled", "failed"}
    assert commands > 10_000 and crashes > 1_000 and retired > 300 and asking > 500 and past > 500
    assert aliased > 500


@pytest.mark.parametrize(("seed", "subject"), [(189, 813), (940, 722)])
def test_an_answer_to_one_run_says_nothing_of_another(seed: int, subject: int) -> None:
    """Found by the whole `make oracle`: a run is retired, another one is answered after that, and what happened months before is told
    only then. What had happened before its retirement reaches the first one.
    """
    assert World(seed, 14).run(1, subject).differences == []


def differs(seeds: int = 40) -> bool:
    return any(World(seed).run(6).differences for seed in range(seeds))


def _no_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    real = waiting.Awaiting.enter
    monkeypatch.setattr(
        waiting.Awaiting, "enter", lambda s, w, t, n: real(s, w, t, n.model_copy(update={"look_back": 0}))
    )


def _one_turn_more(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bodies.Looping._turn
    monkeypatch.setattr(
        bodies.Looping,
        "_turn",
        lambda s, w, t, n, *a: real(s, w, t, n.model_copy(update={"max_turns": n.max_turns + 1}), *a),
    )


def _timers_late(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stepping.Stepping._advance
    monkeypatch.setattr(stepping.Stepping, "_advance", lambda s, until, included: real(s, until - 60_000, included))


def _arms_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    real = choosing.arm_of
    monkeypatch.setattr(choosing, "arm_of", lambda arms, *parts: real(arms, *parts, "x"))


def _no_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting.Compensating, "enter", lambda s, w, t, n: Go(n.next))


def _join_keeps_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping.Stepping, "_drop_inside", lambda *a: None)


def _memo_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stepping.pack

    def lossy(run: Any) -> bytes:
        for token in run.tokens:
            token.stack = token.stack[:1]
        return real(run)

    monkeypatch.setattr("core.workflows.desk.pack", lossy)


def _retired_late(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Desk.published
    monkeypatch.setattr(Desk, "published", lambda s, w: real(s, msgspec.structs.replace(w, at=w.at + HOUR)))


def _profiles_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Desk, "_refresh", lambda *a: [])


def _profiles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(People, "take", lambda s, place, told: list(s._apply(place, told)))


def _retired_runs_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Desk, "published", lambda s, w: None)


def _history_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Desk.happened
    monkeypatch.setattr(Desk, "happened", lambda s, what, *a, **k: real(s, replace(what, past=False), *a, **k))


def _ids_of_the_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "origin", property(lambda run: run.subject))


def _entries_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Entries, "take_away", lambda *a: iter(()))


@pytest.mark.parametrize(
    "broken",
    [
        _ids_of_the_new_name,
        _entries_stay_behind,
        _no_look_back,
        _one_turn_more,
        _timers_late,
        _arms_by_run,
        _no_undo,
        _join_keeps_others,
        _memo_lost,
        _retired_late,
        _retired_runs_go_on,
        _profiles_late,
        _profiles_at_once,
        _history_is_given_up,
    ],
    ids=lambda f: f.__name__.strip("_"),
)
def test_a_broken_engine_is_noticed(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    try:
        assert differs()
    except (LookupError, KeyError, ValueError):
        pass  # noticed too


def test_the_registry_is_the_schemas() -> None:
    assert {n.model_fields["kind"].default for n in NODES} == set(HANDLERS)


def commands_of(seed: int, timers: Callable[[random.Random, int], int]) -> list[tuple[str, int]]:
    """(id, event time) of all commands when events come in order, and timers are fired as far as `timers` says before each."""
    rng = random.Random(seed)
    catalogue, at = Catalogue(), T0
    for one in (Maker(rng, "sub", None, 5).workflow(), Maker(rng, "w1", "sub", 14).workflow()):
        catalogue.put(one)
    desk, came, often = Desk(Shelf(catalogue)), list[Came](), random.Random(seed)
    for n in range(30):
        at += rng.choice([1_000, 600_000, 3_500_000, 20_000_000, 90_000_000])
        data = {
            "type": rng.choice([*TYPES, "go", "go", "go"]),
            "n": rng.randint(0, 9),
            "cart": rng.choice(["c1", "c2"]),
            "items": [1, 2],
        }
        came += desk.advance(timers(often, at), at)
        came += desk.happened(Occurrence("acme", "shop", "user:u", f"e{n}", at, "events.usage", data), at)
    came += desk.advance(at + 400 * 24 * HOUR, at)
    return sorted((c.id, c.issued_at) for one in came for c in one.commands)


@pytest.mark.parametrize("seed", range(40))
def test_how_far_timers_were_fired_changes_no_command(seed: int) -> None:
    """A worker that was away reads a day of events before it fires a timer of that day."""
    eager = commands_of(seed, lambda rng, at: at - 1)
    assert commands_of(seed, lambda rng, at: 0) == eager
    assert commands_of(seed, lambda rng, at: rng.choice([0, at - 1, at - HOUR])) == eager


def history_of(seed: int, soon: Callable[[random.Random], int]) -> tuple[list[tuple[str, int]], int]:
    """(id, event time) of all commands when what happened is told months later, and how many were tried again. `soon`: how many events
    are told before a delivery is.
    """
    rng, often = random.Random(seed), random.Random(f"{seed}/soon")
    catalogue, at, told = Catalogue(), T0, T0 + 200 * 24 * HOUR
    for one in (Maker(rng, "sub", None, 5).workflow(), Maker(rng, "w1", "sub", 14).workflow()):
        catalogue.put(one.model_copy(update={"reentry": "parallel"}))
    desk, came, waiting = Desk(Shelf(catalogue)), list[Came](), list[tuple[int, str]]()

    def comes(more: list[Came], n: int) -> None:
        came.extend(more)
        waiting.extend((n + soon(often), c.id) for one in more for c in one.commands)

    def delivered(n: int) -> bool:
        due = [w for w in waiting if w[0] <= n]
        for one in due:
            waiting.remove(one)
            status = random.Random(one[1]).choice(["delivered", "rejected"])
            comes(desk.receipt("acme", "user:u", Receipt(told + n, one[1], status), told), min(n, 30))
        return bool(due)

    for n in range(30):
        at += rng.choice([1_000, 600_000, 3_500_000, 20_000_000, 90_000_000])
        data = {
            "type": rng.choice([*TYPES, "go", "go"]),
            "n": rng.randint(0, 9),
            "cart": rng.choice(["c1", "c2"]),
            "items": [1, 2],
        }
        comes(desk.advance(at - 1, told), n)
        comes(
            desk.happened(Occurrence("acme", "shop", "user:u", f"e{n}", at, "events.usage", data, past=True), told), n
        )
        while delivered(n):
            pass
    more = True
    while more:
        fired = desk.advance(at + 400 * 24 * HOUR, told)
        comes(fired, 30)
        more = bool(fired) | delivered(1_000)
    assert len(desk) == 0
    found = sorted((c.id, c.issued_at) for one in came for c in one.commands)
    return found, sum(c.step.endswith("~2") for one in came for c in one.commands)


@pytest.mark.parametrize("seed", range(30))
def test_how_soon_deliveries_come_changes_no_command_of_history(seed: int) -> None:
    at_once, _ = history_of(seed, lambda rng: 0)
    assert history_of(seed, lambda rng: 100)[0] == at_once
    assert history_of(seed, lambda rng: rng.choice([0, 1, 3, 100]))[0] == at_once


def test_history_has_tries_that_were_refused() -> None:
    assert sum(history_of(seed, lambda rng: 1)[1] for seed in range(10)) > 0
