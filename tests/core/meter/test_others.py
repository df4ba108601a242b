"""The events topics beside the hot ones: checked, counted once, matched, and never ahead of what was sent."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit
from core.forgetting import digest
from core.meter.others import TOPICS, OthersTask
from core.meter.words import WIRES
from schemas.definitions import CommandTemplate, Compare, Forgotten, OnAbsence, OnEvent, Product, Rule, Workflow
from schemas.events import NEEDS, OTHERS
from schemas.registers import Clock, Registers, Signal, decode
from schemas.triggers import Happening
from tests.core.meter.logs import T0, Record, batch, batches

COMMERCE, CONTACTS = "events.commerce", "events.contacts"
COMMAND = CommandTemplate(type="product.note.write", title="t", text="x")
ABOUT = {
    "events.contacts": {"contact": "ann"},
    "events.commerce": {"user": "ann"},
    "events.engagement": {"contact": "ann"},
    "events.feedback": {"user": "ann"},
    "events.development": {"subject": "service:api"},
    "events.market": {"subject": "rivals"},
}


def event(id: str, at: int, topic: str = COMMERCE, type: str = "cart.created", **more: Any) -> Record:
    word = {"id": id, "tenant": "acme", "product": "shop", "type": type, "occurred_at": at, **ABOUT[topic], **more}
    return Record(json.dumps(word).encode(), at + 500, b"acme|ann")


def mark(kind: str, at: int, broker: int, products: list[list[str]] | None = None) -> Record:
    word = {"type": f"uptake.replay.{kind}", "id": f"{kind}{at}", "replay": "r", "at": at, "act": True}
    return Record(json.dumps(word | ({"products": products} if products else {})).encode(), broker, b"")


def rule(name: str, topic: str, where: Any = None, subject: str = "user") -> Rule:
    trigger = OnEvent.model_validate({"topic": topic, "where": where, "subject": subject})
    return Rule(tenant="acme", name=name, id=name, trigger=trigger, command=COMMAND)


def catalogue(*definitions: Any) -> Catalogue:
    made = Catalogue()
    for one in definitions:
        made.put(one)
    return made


def signals(effects: list[Effect]) -> list[Signal]:
    told = [e for e in effects if isinstance(e, Emit) and e.topic == "signals"]
    return [msgspec.json.decode(e.value or b"", type=Signal) for e in told]


def told(effects: list[Effect]) -> list[Registers | Clock]:
    return [decode(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "meter.registers"]


def again(task: OthersTask, known: Catalogue, rows: dict[bytes, bytes | None]) -> OthersTask:
    """The task as another process recovers it; `rows` is its state topic."""
    rows.update(task.drain())
    made = OthersTask(0, 1, known)
    for key, value in rows.items():
        made.load(key, value)
    made.loaded()
    return made


@pytest.mark.parametrize("topic", TOPICS)
def test_each_topic_meets_its_rules(topic: str) -> None:
    kind = {"events.development": "service", "events.market": "feature"}.get(topic) or next(iter(ABOUT[topic]))
    name = {"service": "api", "feature": "rivals"}.get(kind, "ann")
    known = catalogue(rule("mine", topic, Compare(field="type", op="==", value="odd.thing"), kind))
    task = OthersTask(0, 1, known)
    effects = list(task.step(batch([event("1", T0, topic, "odd.thing"), event("2", T0, topic, "other")], topic)))
    (signal,) = signals(effects)
    assert (signal.subject, signal.cause, signal.rules, signal.topic) == (f"{kind}:{name}", "1", ["mine"], topic)


def test_a_subject_of_another_kind_is_not_taken_for_this_one() -> None:
    known = catalogue(rule("mine", "events.development", None, "feature"))
    assert not signals(
        list(OthersTask(0, 1, known).step(batch([event("1", T0, "events.development")], "events.development")))
    )


def test_a_bad_row_is_a_dead_letter_and_the_one_beside_it_is_unharmed() -> None:
    task = OthersTask(0, 1, catalogue(Product(tenant="acme", name="shop"), rule("all", COMMERCE)), strict=True)
    rows = [
        event("1", T0),
        event("2", T0, user=""),
        event("3", T0, type="purchase.completed"),
        event("4", T0, tenant="NO"),
        event("5", T0, product="none"),
        event("6", T0, currency="euro"),
        Record(b"{", T0),
        Record(event("7", T0 + 9_000_000).value, T0),
        event("8", T0, tenant="globex"),
    ]
    effects = list(task.step(batch(rows, COMMERCE)))
    dead = {e.offset: e.reason for e in effects if isinstance(e, DeadLetter)}
    invalid = dict.fromkeys((1, 2, 5), "invalid")
    others = {3: "bad_tenant", 4: "unknown_product", 6: "not_json", 7: "too_far_ahead", 8: "unknown_tenant"}
    assert dead == invalid | others
    assert [s.cause for s in signals(effects)] == ["1"]
    outcomes = {e.labels[1]: e.n for e in effects if isinstance(e, Count) and e.metric == "uptake_rows_total"}
    assert outcomes == {"accepted": 1, "dead": 8}


@pytest.mark.parametrize("topic", TOPICS)
def test_meter_and_the_schema_agree(topic: str) -> None:
    """Whatever the gateway takes, METER takes; and what it refuses of these, METER refuses."""
    word, odd = OTHERS[topic], ["", 5, 5.5, "x", "EUR", ["a"], [1], {"a": 1}, [{"a": 1}], True, -1, 1e300]
    fields = [f for f in word.model_fields if f not in ("id", "tenant", "product", "type", "occurred_at", "properties")]
    types = ["free.type", *NEEDS]
    cases = [(type, field, value) for type in types for field in fields for value in odd]
    values, fine = [], []
    for n, (type, field, value) in enumerate(cases):
        row = json.loads(event(str(n), T0, topic, type).value or b"") | {field: value}
        values.append(Record(json.dumps(row).encode(), T0, b"acme|ann"))
        try:
            word.model_validate_json(values[-1].value or b"", strict=True)
            fine.append(True)
        except ValidationError:
            fine.append(False)
    effects = list(OthersTask(0, 1, Catalogue()).step(batch(values, topic)))
    dead = {e.offset: e.detail for e in effects if isinstance(e, DeadLetter)}
    assert not [(case, dead.get(n)) for n, case in enumerate(cases) if fine[n] == (n in dead)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 60), max_size=8))
def test_any_split_and_any_crash_sends_each_once(seed: int, cuts: list[int]) -> None:
    rng = random.Random(seed)
    rows, seen, expected = [], set(), []
    for i in range(50):
        id = str(rng.randrange(40))
        rows.append(event(id, T0 + i * 1_000, amount=rng.randrange(3)))
        amount = json.loads(rows[-1].value or b"")["amount"]
        if id not in seen and amount:
            expected.append(id)
        seen.add(id)
    known = catalogue(rule("some", COMMERCE, Compare(field="amount", op=">", value=0)))
    task, state = OthersTask(0, 1, known), dict[bytes, bytes | None]()
    sent: list[str] = []
    for one in batches(rows, cuts, COMMERCE):
        sent += [s.cause for s in signals(list(task.step(one)))]
        if rng.random() < 0.5:
            task = again(task, known, state)
    assert sent == expected


def test_the_horizon_is_ten_minutes() -> None:
    known = catalogue(rule("all", COMMERCE))
    task, state, sent = OthersTask(0, 1, known), dict[bytes, bytes | None](), list[str]()
    for minute in (0, 5, 9, 15, 31):
        rows = [
            event("same", T0 + minute * 60_000),
            *(event(f"{minute}-{n}", T0 + minute * 60_000) for n in range(1_500)),
        ]
        sent += [s.cause for s in signals(list(task.step(batch(rows, COMMERCE)))) if s.cause == "same"]
        task = again(task, known, state)
    assert sent == ["same", "same"]
    live = {key for key, value in state.items() if value is not None and b'"ids"' in key}
    assert len(live) == 2, "older identities are deleted from the state topic"


def test_nobody_hears_of_a_time_before_all_six_topics_have_passed_it() -> None:
    task = OthersTask(0, 1, Catalogue())
    (word,) = told(list(task.step(batch([event("1", T0)], COMMERCE))))
    assert isinstance(word, Registers) and word.clock == 0 and not word.replay
    five = [(topic, 0) for topic in TOPICS if topic != COMMERCE]
    (word,) = told(list(task.tick(T0 + 10_000, five)))
    assert isinstance(word, Registers) and word.clock == T0 - 2_000, (
        "as far as its own rows, where those were not read to their end"
    )
    (clock,) = told(list(task.tick(T0 + 10_500, [*five, (COMMERCE, 0)])))
    assert isinstance(clock, Clock) and clock.at == T0 + 8_500 and not clock.replaying


def test_a_product_that_begins_with_a_replay_is_as_far_as_the_replay_in_every_topic() -> None:
    known, state = Catalogue(), dict[bytes, bytes | None]()
    now, old = T0 + 86_400_000, T0
    task = OthersTask(0, 1, known)
    everywhere = [(topic, 0) for topic in TOPICS]
    task.tick(now, everywhere)
    begun = mark("begun", old, now, [["acme", "shop"]])
    (word,) = told(list(task.step(batch([begun], COMMERCE))))
    assert isinstance(word, Registers) and word.replay and word.clock == old - 2_000
    task = again(task, known, state)
    rows = [event("1", old + 5_000), mark("progressed", old + 60_000, now)]
    assert not told(list(task.step(batch(rows, COMMERCE)))), "the other topics have not said anything yet"
    task = again(task, known, state)
    words = told(list(task.tick(now + 2_000, everywhere)))
    assert [w.clock for w in words if isinstance(w, Registers)] == [old + 58_000], "they have no such replay"
    ended = told(list(task.step(batch([mark("ended", old + 60_000, now)], COMMERCE))))
    assert [w.clock for w in ended if isinstance(w, Registers)] == [now - 2_000]


def test_rows_of_the_forgotten_are_dropped() -> None:
    salt = "ab" * 32
    gone = Forgotten(tenant="acme", name=digest(salt, "acme", "user:ann"), of="user", salt=salt, asked_at=T0)
    effects = list(OthersTask(0, 1, catalogue(gone, rule("all", COMMERCE))).step(batch([event("1", T0)], COMMERCE)))
    assert not signals(effects)
    assert Count("uptake_forgotten_total", 1, ("meter",)) in effects


@pytest.mark.parametrize("name", ["user:anon", "contact:anon"])
def test_an_alias_of_a_forgotten_name_is_dropped(name: str) -> None:
    salt = "ab" * 32
    gone = Forgotten(tenant="acme", name=digest(salt, "acme", name), of="user", salt=salt, asked_at=T0)
    alias = event("1", T0, CONTACTS, "contact.aliased", former="anon")
    effects = list(OthersTask(0, 1, catalogue(gone, rule("all", CONTACTS))).step(batch([alias], topic=CONTACTS)))
    assert not signals(effects)
    assert Count("uptake_forgotten_total", 1, ("meter",)) in effects


def test_a_rule_that_remembers_hears_of_two_topics() -> None:
    trigger = OnAbsence(
        first=Happening(topic=COMMERCE, where=Compare(field="type", op="==", value="cart.created")),
        then=Happening(topic="events.usage", where=Compare(field="type", op="==", value="feature.used")),
        within_s=60,
    )
    known = catalogue(Rule(tenant="acme", name="left", id="left", trigger=trigger, command=COMMAND))
    (signal,) = signals(list(OthersTask(0, 1, known).step(batch([event("1", T0)], COMMERCE))))
    assert signal.rules == ["left"] and signal.topic == COMMERCE


def test_every_topic_has_its_twin() -> None:
    assert set(WIRES) == set(OTHERS)


def test_both_names_of_an_alias_are_told_where_somebody_has_workflows() -> None:
    alias = event("1", T0, CONTACTS, "contact.aliased", former="anon")
    other = event("2", T0, CONTACTS, "contact.tagged", tags=["x"])
    trigger = {"kind": "event", "topic": "events.usage", "where": "feature == 'cart'"}
    flow = {
        "name": "w",
        "id": "w",
        "trigger": trigger,
        "start": "a",
        "nodes": [{"kind": "exit", "id": "a", "outcome": "x"}],
    }
    for tenant, about in (
        ("acme", ["contact:ann", "contact:anon", "user:ann", "user:anon"]),
        ("all", ["contact:ann", "contact:anon", "user:ann", "user:anon"]),
        ("beta", []),
        (None, []),
    ):
        known = catalogue(*([] if tenant is None else [Workflow.model_validate({**flow, "tenant": tenant})]))
        found = signals(list(OthersTask(0, 1, known).step(batch([alias, other], topic=CONTACTS))))
        assert sorted(s.subject for s in found) == about
        assert all(s.topic == CONTACTS and s.data["former"] == "anon" and not s.workflows for s in found)
