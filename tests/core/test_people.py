"""Profiles, live segments, aliases and campaigns: any order, any split, any crash comes to the same."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.trying import try_all
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.people.facts import facts_of, variant_of
from core.people.people import Told
from core.people.profile import MAX_VALUES, Profile
from core.rulebook import read_rulebook
from schemas.commands import Command
from schemas.definitions import Campaign, Rule, Segment
from schemas.registers import Signal
from schemas.segments import Variant
from tests.helpers.words import a_batch

T0 = 1_767_225_600_000
WORDS: list[tuple[str, dict[str, Any]]] = [
    ("events.contacts", {"type": "contact.tagged", "contact": "ann", "tags": ["vip"]}),
    ("events.contacts", {"type": "contact.untagged", "contact": "ann", "tags": ["vip"]}),
    ("events.contacts", {"type": "contact.updated", "contact": "ann", "fields": {"plan": "pro"}, "time_zone": "UTC"}),
    ("events.contacts", {"type": "contact.updated", "contact": "ann", "fields": {"plan": None}}),
    ("events.contacts", {"type": "list.joined", "contact": "ann", "list": "news"}),
    ("events.contacts", {"type": "list.left", "contact": "ann", "list": "news"}),
    ("events.contacts", {"type": "contact.stage_changed", "contact": "ann", "stage": "lead"}),
    ("events.contacts", {"type": "campaign.joined", "contact": "ann", "campaign": "spring"}),
    ("events.contacts", {"type": "campaign.moved", "contact": "ann", "campaign": "spring", "position": 1}),
    ("events.contacts", {"type": "campaign.left", "contact": "ann", "campaign": "spring"}),
    ("events.commerce", {"type": "purchase.completed", "user": "ann", "amount": 12.34}),
    ("events.engagement", {"type": "message.sent", "contact": "ann"}),
    ("events.engagement", {"type": "message.opened", "contact": "ann"}),
    ("events.feedback", {"type": "rating.given", "user": "ann", "rating": 4}),
]


def definitions() -> Catalogue:
    made = Catalogue()
    command = {"type": "marketing.offer.send", "title": "{{ contact.purchases }} {{ segments }}", "text": "t"}
    vip = 'contact.tags.contains("vip") || contact.purchases >= 3'
    made.put(Segment.model_validate({"tenant": "acme", "name": "vips", "product": "shop", "where": vip}))
    for name, trigger, when in (
        ("in", {"kind": "segment", "segment": "vips"}, None),
        ("out", {"kind": "segment", "segment": "vips", "edge": "left"}, None),
        ("big", {"kind": "event", "topic": "events.commerce"}, 'contact.spent > 30 && "vips" in segments'),
    ):
        rule = {"tenant": "acme", "name": name, "id": name, "trigger": trigger, "when": when, "command": command}
        made.put(Rule.model_validate({**rule, "ceiling_per_hour": 100_000}))
    spring = {"tenant": "acme", "name": "spring", "product": "shop", "steps": ["hello", "offer"]}
    made.put(Campaign.model_validate({**spring, "variants": [{"name": "a"}, {"name": "b"}]}))
    return made


def event(n: int, at: int, topic: str, word: dict[str, Any], subject: str = "user:ann") -> Signal:
    rules = ["big"] if topic == "events.commerce" else []
    return Signal(
        tenant="acme",
        product="shop",
        subject=subject,
        kind="event",
        cause=f"e{n}",
        rules=rules,
        at=at,
        data=dict(word),
        topic=topic,
    )


def clock(at: int) -> Signal:
    return Signal(tenant="acme", product="shop", subject="", kind="clock", cause="", rules=[], at=at, data={})


def step(task: SignalsTask, *signals: Signal, broker: int = T0 + 10_000_000) -> list[Effect]:
    return list(task.step(a_batch("signals", [msgspec.json.encode(s) for s in signals], at=broker)))


def outcome(effects: list[Effect]) -> list[tuple[str, str]]:
    """Commands and edges, as (rule or edge, id or cause)."""
    found = []
    for e in effects:
        if isinstance(e, Emit) and e.topic.startswith("commands."):
            command = Command.model_validate_json(e.value or b"")
            found.append((command.rule, f"{command.id} {command.title} {command.issued_at}"))
        elif isinstance(e, Emit) and e.topic == "signals":
            signal = msgspec.json.decode(e.value or b"", type=Signal)
            found.append((signal.kind, f"{signal.subject} {signal.cause} {signal.at}"))
    return found


def again(task: SignalsTask, known: Catalogue, rows: dict[bytes, bytes | None]) -> SignalsTask:
    rows.update(task.drain())
    made = SignalsTask(0, 1, known)
    for key, value in rows.items():
        made.load(key, value)
    made.loaded()
    return made


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("act", [False, True])
def test_an_edge_of_a_replay_acts_where_the_replay_does(act: bool, crash: bool) -> None:
    """METER says whether an old event may act; what follows from it may where it may."""
    known, state, late = definitions(), dict[bytes, bytes | None](), T0 + 90 * 86_400_000
    task = SignalsTask(0, 1, known)
    step(task, msgspec.structs.replace(event(1, T0, *WORDS[0]), act=act), broker=late)
    if crash:
        task = again(task, known, state)
    effects = step(task, clock(T0 + 1_000), broker=late)
    kinds = [kind for kind, _ in outcome(effects)]
    assert kinds == (["segment", "in"] if act else ["segment"])
    edge = next(msgspec.json.decode(e.value or b"", type=Signal) for e in effects if isinstance(e, Emit))
    assert edge.act is act


def test_a_row_of_before_says_nothing_of_acting_and_loads() -> None:
    old = [T0, "e1", None, [], b"", T0 + 90 * 86_400_000]
    assert not Told(*old).acts and Told(*[*old[:5], T0 + 1_000]).acts


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_any_interleaving_split_and_crash_gives_the_same(seed: int) -> None:
    rng = random.Random(seed)
    rows = [event(n, T0 + rng.randrange(20) * 1_000, *rng.choice(WORDS)) for n in range(40)]
    known, outcomes, facts = definitions(), [], []
    for _ in range(2):
        task, state, found = SignalsTask(0, 1, known), dict[bytes, bytes | None](), list[tuple[str, str]]()
        by_topic: dict[str, list[Signal]] = {}
        for row in sorted(rows, key=lambda r: r.at):
            by_topic.setdefault(row.topic or "", []).append(row)
        told = T0
        while any(by_topic.values()):
            head = rng.choice([t for t, left in by_topic.items() if left])
            found += outcome(step(task, by_topic[head].pop(0)))
            told = max(told, min((left[0].at for left in by_topic.values() if left), default=told))
            if rng.random() < 0.3:
                found += outcome(step(task, clock(told)))
            if rng.random() < 0.2:
                task = again(task, known, state)
        found += outcome(step(task, clock(T0 + 60_000)))
        outcomes.append(found)
        facts.append(task.people.facts("acme", "shop", "user:ann"))
    assert outcomes[0] == outcomes[1]
    assert facts[0] == facts[1]
    plain = Profile()
    for row in sorted(rows, key=lambda r: (r.at, r.cause)):
        plain.fold(row.data, row.at, row.cause, row.subject)
    spring = known.of(Campaign)[0]
    expected = facts_of("user:ann", plain, facts[0]["segments"], {"spring": spring})
    assert facts[0] == expected
    inside = "vip" in expected["contact"]["tags"] or expected["contact"]["purchases"] >= 3
    assert facts[0]["segments"] == (["vips"] if inside else [])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_arrival_does_not_matter_to_a_profile(seed: int) -> None:
    rng = random.Random(seed)
    rows = [(*rng.choice(WORDS), rng.randrange(5), f"e{n}") for n in range(30)]
    made = []
    for _ in range(2):
        rng.shuffle(rows)
        profile = Profile()
        for _, word, at, id in rows:
            profile.fold(word, at, id, "user:ann")
        made.append(profile)
    assert made[0].registers == made[1].registers and made[0].counts == made[1].counts


def test_an_alias_unites_two_histories_once_however_often_it_comes() -> None:
    known = definitions()
    task = SignalsTask(0, 1, known)
    anon = "user:anon"
    bought = {"type": "purchase.completed", "user": "anon", "amount": 5}
    alias = {"type": "contact.aliased", "contact": "ann", "former": "anon"}
    first = [event(n, T0 + n, "events.commerce", bought, anon) for n in range(3)]
    mine = event(5, T0 + 5, "events.commerce", {**bought, "user": "ann"})
    sides = [event(9, T0 + 9, "events.contacts", alias, s) for s in (anon, "user:ann")]
    effects = step(task, *first, mine, *sides, clock(T0 + 1_000))
    sent = [
        msgspec.json.decode(e.value or b"", type=Signal)
        for e in effects
        if isinstance(e, Emit) and e.topic == "signals"
    ]
    edges = [(s.data["edge"], s.subject) for s in sent if s.kind == "segment"]
    assert edges == [("entered", anon), ("left", anon)], "who is known by another name is in no segment"
    (merge,) = [s for s in sent if s.kind == "merge"]
    assert merge.subject == "user:ann"
    entered = outcome(step(task, merge))
    assert [kind for kind, _ in entered] == ["segment", "in"]
    assert not outcome(step(task, merge))
    assert task.people.facts("acme", "shop", "user:ann")["contact"]["purchases"] == 4
    late = step(task, event(7, T0 + 4, "events.commerce", bought, anon))
    (more,) = [
        msgspec.json.decode(e.value or b"", type=Signal) for e in late if isinstance(e, Emit) and e.topic == "signals"
    ]
    step(task, merge, more, merge, more)
    assert task.people.facts("acme", "shop", "user:ann")["contact"]["purchases"] == 5
    assert task.people.facts("acme", "shop", "user:ann")["contact"]["spent"] == 25


def test_two_names_that_stand_for_each_other_come_to_rest() -> None:
    task = SignalsTask(0, 1, definitions())
    waiting = []
    for n, (a, b) in enumerate((("x", "y"), ("y", "x"))):
        word = {"type": "contact.aliased", "contact": a, "former": b}
        waiting += [event(n, T0 + n, "events.contacts", word, f"user:{who}") for who in (a, b)]
    waiting.append(clock(T0 + 1_000))
    for _ in range(10):
        effects = step(task, *waiting)
        sent = [
            msgspec.json.decode(e.value or b"", type=Signal)
            for e in effects
            if isinstance(e, Emit) and e.topic == "signals"
        ]
        waiting = [s for s in sent if s.kind == "merge"]
        if not waiting:
            break
    assert not waiting


def test_a_segment_that_is_defined_later_looks_at_everybody() -> None:
    known = definitions()
    task, state = SignalsTask(0, 1, known), dict[bytes, bytes | None]()
    lead = {"type": "contact.stage_changed", "contact": "ann", "stage": "lead"}
    step(task, event(1, T0, "events.contacts", lead), clock(T0 + 10_000))
    leads = {"tenant": "acme", "name": "leads", "product": "shop", "where": 'contact.stage == "lead"'}
    known.put(Segment.model_validate(leads))
    task = again(task, known, state)
    found = outcome(step(task, clock(T0 + 20_000)))
    assert [kind for kind, _ in found] == ["segment"] and "user:ann" in found[0][1]
    task = again(task, known, state)
    assert not outcome(step(task, clock(T0 + 30_000)))


def test_what_is_too_much_is_let_go_with_its_reason() -> None:
    profile = Profile()
    fields = {f"f{n}": n for n in range(MAX_VALUES + 2)}
    assert profile.fold({"type": "contact.updated", "fields": fields}, 1, "e1", "user:a") == ["profile_full"] * 2
    other = Profile()
    odd = {"big": "x" * 10_000, "nested": {"a": 1}, "fine": [1, 2]}
    assert other.fold({"type": "contact.updated", "fields": odd}, 1, "e1", "user:a") == ["profile_value"] * 2
    assert other.value("fields.fine") == [1, 2]


def test_a_campaign_has_steps_and_variants() -> None:
    campaign = Campaign(
        tenant="acme",
        name="c",
        product="shop",
        steps=["one", "two"],
        variants=[Variant(name="a", weight=3), Variant(name="b")],
    )
    profile = Profile()
    profile.fold({"type": "campaign.joined", "contact": "x", "campaign": "c"}, 1, "e1", "contact:x")
    profile.fold({"type": "campaign.moved", "contact": "x", "campaign": "c", "position": 1}, 2, "e2", "contact:x")
    found = facts_of("contact:x", profile, (), {"c": campaign})["campaign"]["c"]
    assert found == {"member": True, "position": 1, "step": "two", "variant": variant_of(campaign, "user:x")}
    drawn = [variant_of(campaign, f"user:{n}") for n in range(4_000)]
    assert 2_850 < drawn.count("a") < 3_150
    profile.fold({"type": "campaign.left", "contact": "x", "campaign": "c"}, 3, "e3", "contact:x")
    assert facts_of("contact:x", profile, (), {"c": campaign})["campaign"]["c"]["position"] is None


BOOK = """
definitions:
  - kind: segment
    tenant: acme
    name: vips
    product: shop
    of: contact
    where: '"vip" in contact.tags'
  - kind: rule
    tenant: acme
    name: welcome
    id: welcome
    trigger: {kind: segment, segment: vips}
    when: 'contact.open_rate > 0.1'
    command:
      type: marketing.offer.send
      title: "Welcome {{ contact.id }}"
      text: "{{ segments }}"
      payload: {n: "{{ contact.purchases }}"}
    tests:
      - given: {subject: "contact:ann", contact: {open_rate: 0.5, purchases: 3}}
        expect: marketing.offer.send
        payload: {n: 3}
      - given: {subject: "contact:ann"}
        expect: silence
  - kind: rule
    tenant: acme
    name: follow-up
    id: follow-up
    trigger: {kind: event, topic: events.engagement, where: 'type == "message.opened"', subject: contact}
    when: '"vips" in segments && campaign.spring.position == 1'
    command: {type: marketing.mail.send, title: "{{ contact.stage }}", text: "t"}
    tests:
      - given: {type: message.opened, contact: {stage: lead}, segments: [vips], campaign: {spring: {position: 1}}}
        expect: marketing.mail.send
      - given: {type: message.opened, segments: [], campaign: {spring: {position: 1}}}
        expect: silence
"""


def test_rules_about_people_are_tried_on_given_profiles() -> None:
    tried = list(try_all({"people.yaml": BOOK}))
    assert len(tried) == 4 and [t.failure for t in tried] == [None] * 4


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"vip" in contact.tags', "contact.tag == 1", "no fact"),
        ("contact.open_rate > 0.1", 'contact.open_rate > "a"', "never a text"),
        ("segment: vips}", "segment: none}", "no segment none"),
        ("campaign.spring.position == 1'", "campaign.spring.place == 1'", "is no field"),
    ],
)
def test_wrong_facts_are_found_before_anything_runs(old: str, new: str, why: str) -> None:
    _, found = read_rulebook({"people.yaml": BOOK.replace(old, new)})
    problems = [p.reason for p in found]
    assert any(why in p for p in problems), problems
