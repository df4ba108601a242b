"""Triggers that remember, beside a plain fold: any batches, any order of rows, any clocks, crashes at any checkpoint."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.batch import Batch
from core.decide import memories
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.forgetting import digest
from schemas.commands import Command
from schemas.definitions import CommandTemplate, Forgotten, Rule
from schemas.registers import Signal

T0 = 1_767_225_600_000
END = T0 + 100_000
MINE = ("u1", "u2")


@dataclass(frozen=True, order=True)
class Row:
    at: int
    cause: str
    user: str
    feature: str


def rule(name: str, **trigger: Any) -> Rule:
    command = CommandTemplate(type="success.user.help", title="{{ at }} {{ first_at }}", text="{{ reason }}")
    return Rule.model_validate(
        {"name": name, "id": name, "trigger": trigger, "command": command, "ceiling_per_hour": 100_000}
    )


def feature(text: str) -> dict[str, str]:
    return {"topic": "events.usage", "where": text}


RULES = [
    rule("three", kind="count", **feature('feature == "a"'), times=3, within_s=10),
    rule("a-b", kind="sequence", steps=[feature('feature == "a"'), feature('feature == "b"')], within_s=5),
    rule("a-a", kind="sequence", steps=[feature('feature == "a"'), feature('feature == "a"')], within_s=4),
    rule(
        "a-any-c",
        kind="sequence",
        steps=[feature('feature == "a"'), {"topic": "events.usage"}, feature('feature == "c"')],
        within_s=8,
    ),
    rule("a-no-b", kind="absence", first=feature('feature == "a"'), then=feature('feature == "b"'), within_s=6),
    rule(
        "a-no-b-again", kind="absence", first=feature('feature == "a"'), then=feature('feature == "b"'), within_s=6,
        restart=True,
    ),
    rule("ab-no-b", kind="absence", first=feature('feature in ["a", "b"]'), then=feature('feature == "b"'), within_s=3),
    rule("quiet", kind="inactivity", **feature('feature in ["a", "b"]'), after_s=7),
]  # fmt: skip


# --- the plain fold: whole lists of one subject's rows, no state, nothing of core -----------------------------------------

Fold = Callable[[list[Row]], list[tuple[int, int, str]]]


def count(letters: str, times: int, span: int) -> Fold:
    def fold(rows: list[Row]) -> list[tuple[int, int, str]]:
        fired, since = [], 0
        mine = [r for r in rows if r.feature in letters]
        for i, row in enumerate(mine):
            inside = [r for r in mine[since : i + 1] if row.at - r.at < span]
            if len(inside) >= times:
                fired.append((row.at, inside[0].at, row.cause))
                since = i + 1
        return fired

    return fold


def sequence(steps: list[str], span: int) -> Fold:
    def begins(rows: list[Row], last: int, first: int, left: list[str]) -> int | None:
        """Latest time at which a chain that ends at row `last` can have begun, of rows from `first` on."""
        if rows[last].feature not in left[-1]:
            return None
        if len(left) == 1:
            return rows[last].at
        found = [begins(rows, i, first, left[:-1]) for i in range(first, last)]
        return max((f for f in found if f is not None), default=None)

    def fold(rows: list[Row]) -> list[tuple[int, int, str]]:
        fired, first = [], 0
        for i, row in enumerate(rows):
            began = begins(rows, i, first, steps)
            if began is not None and row.at - began <= span:
                fired.append((row.at, began, row.cause))
                first = i + 1
        return fired

    return fold


def absence(opens: str, closes: str, span: int, restart: bool) -> Fold:
    def fold(rows: list[Row]) -> list[tuple[int, int, str]]:
        fired, i = [], 0
        while i < len(rows):
            if rows[i].feature not in opens:
                i += 1
                continue
            anchor, j, closed = rows[i], i + 1, False
            while j < len(rows) and rows[j].at <= anchor.at + span:
                if rows[j].feature in closes:
                    closed = True
                    break
                if restart and rows[j].feature in opens:
                    anchor = rows[j]
                j += 1
            if not closed and anchor.at + span < END:
                fired.append((anchor.at + span, anchor.at, f"{anchor.cause}+{anchor.at + span}"))
            i = j
        return fired

    return fold


def inactivity(letters: str, span: int) -> Fold:
    def fold(rows: list[Row]) -> list[tuple[int, int, str]]:
        mine = [r for r in rows if r.feature in letters]
        fired = []
        for i, row in enumerate(mine):
            following = mine[i + 1].at if i + 1 < len(mine) else END
            if following > row.at + span and row.at + span < END:
                fired.append((row.at + span, row.at, f"{row.cause}+{row.at + span}"))
        return fired

    return fold


FOLDS: dict[str, Fold] = {
    "three": count("a", 3, 10_000),
    "a-b": sequence(["a", "b"], 5_000),
    "a-a": sequence(["a", "a"], 4_000),
    "a-any-c": sequence(["a", "abc", "c"], 8_000),
    "a-no-b": absence("a", "b", 6_000, False),
    "a-no-b-again": absence("a", "b", 6_000, True),
    "ab-no-b": absence("ab", "b", 3_000, False),
    "quiet": inactivity("ab", 7_000),
}


def expected(rows: list[Row]) -> list[tuple[str, str, int, int, str]]:
    by_user: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows):
        by_user[row.user].append(row)
    return sorted(
        (name, f"user:{user}", *found)
        for user, own in by_user.items()
        for name, fold in FOLDS.items()
        for found in fold(own)
    )


# --- the task ---------------------------------------------------------------------------------------------------------


class NoKeys:
    def key(self, row: int) -> bytes | None:
        return None


def clock(at: int, product: str = "shop") -> Signal:
    return Signal(tenant="acme", product=product, subject="", kind="clock", cause="", rules=[], at=at, data={})


def a_signal(row: Row, **more: Any) -> Signal:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "product": "shop",
        "subject": f"user:{row.user}",
        "kind": "event",
        "cause": row.cause,
        "rules": [r.name for r in RULES],
        "at": row.at,
        "data": {"type": "feature.used", "feature": row.feature, "user": row.user},
        **more,
    }
    return Signal(**fields)


def batch(signals: list[Signal], offset: int = 0) -> Batch:
    values: list[bytes | None] = [msgspec.json.encode(s) for s in signals]
    n = len(values)
    return Batch("signals", 0, values, np.arange(offset, offset + n), np.full(n, END), offset + n, NoKeys())


def a_catalogue() -> Catalogue:
    catalogue = Catalogue()
    for one in RULES:
        catalogue.put(one)
    return catalogue


def fired(effects: list[Effect]) -> list[tuple[str, str, int, int, str]]:
    found = []
    for effect in effects:
        if isinstance(effect, Emit) and effect.topic.startswith("commands.") and effect.value is not None:
            command = Command.model_validate_json(effect.value)
            at, first = command.title.split()
            assert int(at) == command.issued_at
            found.append((command.rule, command.subject, int(at), int(first), command.cause))
    return found


def run(log: list[Signal], rng: random.Random) -> list[tuple[str, str, int, int, str]]:
    catalogue = a_catalogue()
    task = SignalsTask(0, 1, catalogue)
    state: dict[bytes, bytes] = {}
    effects: list[Effect] = []
    while log:
        n = rng.choice([1, 2, 7, 50])
        effects += task.step(batch(log[:n]))
        log = log[n:]
        if rng.random() < 0.4:
            for key, value in task.drain():
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
            if rng.random() < 0.6:
                task = SignalsTask(0, 1, catalogue)
                rows = list(state.items())
                rng.shuffle(rows)
                for key, value in rows:
                    task.load(key, value)
                task.loaded()
                assert not task.drain()
    assert task.actor.books.difference == 0
    return fired(effects)


ROWS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 500, 1]), st.sampled_from(MINE), st.sampled_from("aaabbc")),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(0, 1 << 30))
def test_the_same_as_the_fold_however_it_comes(drawn: list[tuple[int, int, str, str]], seed: int) -> None:
    rng = random.Random(seed)
    rows = [Row(T0 + s * 1000 + ms, f"e{i:02}", user, f) for i, (s, ms, user, f) in enumerate(drawn)]
    want = expected(rows)
    orders = []
    for _ in range(2):
        times = [*(r.at for r in rows), *(r.at + 7_000 for r in rows), rng.randrange(T0, END)]
        ticks = sorted({END, *(rng.choice(times) for _ in range(rng.choice([0, 3, 20])))})
        log, left = [], list(rows)
        rng.shuffle(left)
        for tick in ticks:  # a row comes before the clock that passes it, and otherwise whenever it likes
            due = [r for r in left if r.at < tick or rng.random() < 0.2]
            left = [r for r in left if r not in due]
            log += [*map(a_signal, due), clock(tick)]
        orders.append(run(log, rng))
        assert sorted(orders[-1]) == want
    assert orders[0] == orders[1], "the order is one of event time too"


@pytest.mark.parametrize(("third", "fires"), [(9_999, True), (10_000, False)])
def test_a_count_is_of_less_than_its_span(third: int, fires: bool) -> None:
    rows = [Row(T0 + ms, f"e{ms}", "u1", "a") for ms in (0, 5_000, third)]
    found = run([*map(a_signal, rows), clock(END)], random.Random(1))
    assert sorted(found) == expected(rows) and any(name == "three" for name, *_ in found) is fires


def test_every_kind_fires_somewhere() -> None:
    found = set()
    for seed in range(20):
        rng = random.Random(seed)
        rows = [
            Row(T0 + rng.randrange(40) * 1000, f"e{i:02}", rng.choice(MINE), rng.choice("aaabbc")) for i in range(20)
        ]
        found |= {name for name, *_ in expected(rows)}
    assert found == set(FOLDS) == {r.name for r in RULES}


def test_late_rows_are_counted_and_change_nothing() -> None:
    task = SignalsTask(0, 1, a_catalogue())
    late = Row(T0 + 4_999, "late", "u1", "a")
    on_time = Row(T0 + 5_000, "e1", "u1", "a")
    effects = list(task.step(batch([clock(T0 + 5_000), a_signal(late), a_signal(on_time), clock(END)])))
    assert Count("uptake_late_rows_total", 1, ("signals", "late")) in effects
    assert {c for *_, c in fired(effects)} == {f"e1+{T0 + 11_000}", f"e1+{T0 + 8_000}", f"e1+{T0 + 12_000}"}


def test_products_have_clocks_of_their_own() -> None:
    task = SignalsTask(0, 1, a_catalogue())
    row = Row(T0, "e1", "u1", "a")
    effects = list(task.step(batch([a_signal(row), clock(END, "another")])))
    assert not fired(effects)
    assert fired(list(task.step(batch([clock(END)]))))


def test_another_trigger_forgets_and_another_title_does_not() -> None:
    catalogue = a_catalogue()
    task = SignalsTask(0, 1, catalogue)
    task.step(batch([a_signal(Row(T0, "e1", "u1", "a"), rules=["quiet"]), clock(T0 + 1)]))
    quiet = RULES[-1]
    catalogue.put(quiet.model_copy(update={"version": 2, "description": "better said"}))
    task.step(batch([clock(T0 + 2)]))
    catalogue.put(
        rule("quiet", kind="inactivity", **feature('feature == "c"'), after_s=7).model_copy(update={"version": 3})
    )
    assert not fired(list(task.step(batch([clock(END)]))))
    task.step(batch([a_signal(Row(END, "e2", "u1", "c"), rules=["quiet"])]))
    catalogue.put(catalogue.of(Rule)[-1].model_copy(update={"version": 4, "description": "better said"}))
    assert [c for *_, c in fired(list(task.step(batch([clock(END + 60_000)]))))] == [f"e2+{END + 7_000}"]


def test_a_person_who_is_forgotten_is_no_longer_remembered() -> None:
    catalogue = a_catalogue()
    task = SignalsTask(0, 1, catalogue)
    task.step(batch([a_signal(Row(T0, "e1", "u1", "a")), clock(T0 + 1), a_signal(Row(T0 + 2, "e2", "u1", "a"))]))
    before = dict(task.drain())
    salt = "0" * 64
    name = digest(salt, "acme", "user:u1")
    catalogue.put(Forgotten(tenant="acme", name=name, of="user", salt=salt, asked_at=0))
    list(task.tick(0, ()))
    gone = dict(task.drain())
    kept = {k for k, v in {**before, **gone}.items() if v is not None and b"u1" in k}
    assert any(b"u1" in k for k in before) and not kept
    assert not fired(list(task.step(batch([clock(END)]))))


def test_a_large_event_keeps_its_top_only() -> None:
    task = SignalsTask(0, 1, a_catalogue())
    data = {"type": "feature.used", "feature": "a", "user": "u1", "properties": {"x": "y" * 100_000}}
    effects = list(task.step(batch([a_signal(Row(T0, "e1", "u1", "a"), data=data)])))
    assert not effects and max(len(v or b"") for _, v in task.drain()) < memories.MAX_DATA_BYTES
    assert fired(list(task.step(batch([clock(END)]))))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "MAX_WAITING", 3)
    task = SignalsTask(0, 1, a_catalogue())
    rows = [a_signal(Row(T0 + i, f"e{i}", f"u{i}", "a"), rules=["quiet"]) for i in range(5)]
    effects = list(task.step(batch(rows)))
    assert effects.count(Count("uptake_late_rows_total", 1, ("signals", "full"))) == 2
    assert len(fired(list(task.step(batch([clock(END)]))))) == 3


def test_who_is_busy_stands_in_the_queue_once() -> None:
    task = SignalsTask(0, 1, a_catalogue())
    for i in range(200):
        row = Row(T0 + i * 1_000, f"e{i:03}", "u1", "a")
        task.step(batch([a_signal(row, rules=["quiet", "three"]), clock(row.at + 1)]))
    assert len(task.memories._queues["acme", "shop"]) <= 2
    assert [at for name, _, at, *_ in fired(list(task.step(batch([clock(T0 + 900_000)])))) if name == "quiet"] == [
        T0 + 206_000
    ]
