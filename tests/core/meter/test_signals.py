"""Signals: the rows that rules wait for, once a subject, whatever else is in the batch and however it is split."""

from __future__ import annotations

import json
import random
from typing import Any, Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.task import MeterTask
from core.rules.conditions import flatten, holds
from schemas.definitions import All, CommandTemplate, Compare, Condition, Not, OnEvent, Rule
from schemas.envelope import SubjectKind
from schemas.registers import Signal
from tests.core.meter.logs import PERFORMANCE, T0, Published, Record, batch, batches, marker, request, usage

COMMAND = CommandTemplate(type="product.note.write", title="t", text="x")


def rule(
    name: str,
    where: Condition | None,
    subject: SubjectKind = "user",
    tenant: str = "all",
    topic: Literal["events.usage", "events.performance"] = "events.usage",
) -> Rule:
    trigger = OnEvent(topic=topic, where=where, subject=subject)
    return Rule(tenant=tenant, name=name, id=name, trigger=trigger, command=COMMAND)


def equal(field: str, value: Any) -> Compare:
    return Compare(field=field, op="==", value=value)


def catalogue(*rules: Rule) -> Catalogue:
    made = Catalogue()
    for one in rules:
        made.put(one)
    return made


def signals(told: Published) -> list[Signal]:
    return [msgspec.json.decode(e.value or b"", type=Signal) for e in told.signals]


RULES = (
    rule("checkout", equal("feature", "checkout")),
    rule("pro-checkout", All(of=[equal("feature", "checkout"), equal("properties.plan", "pro")])),
    rule("not-web", All(of=[equal("product", "app"), Not(of=equal("properties.plan", "pro"))]), "product"),
    rule("globex", None, tenant="globex"),
    rule("early", Compare(field="occurred_at", op="<", value=T0 + 3_000)),
    rule("account", equal("type", "page.viewed"), "account"),
)


def many(rng: random.Random) -> tuple[Rule, ...]:
    """So many rules of one type and feature that they are told apart by a second value, where they require one."""
    parts = [
        *(equal("properties.plan", plan) for plan in ("pro", "free", "none")),
        *(equal("product", product) for product in ("app", "web")),
        *(equal("user", user) for user in ("u1", "u2")),
        *(equal("account", f"a{i}") for i in range(3)),
        *(Compare(field="properties.plan", op="in", value=value) for value in (["pro", "free"], ["free", "x", "free"])),
        *(Not(of=equal("properties.plan", "pro")), Compare(field="occurred_at", op=">", value=T0 + 2_000)),
        *(equal("subject", "user:u1"), equal("session", "s1")),
    ]
    common = [equal("type", "feature.used"), equal("feature", "checkout")]
    return tuple(
        rule(
            f"m{i}",
            All(of=[*rng.sample(common, rng.randint(1, 2)), *rng.sample(parts, rng.randint(0, 2))]),
            rng.choice(("user", "account", "product")),
            rng.choice(("all", "acme", "globex", "other")),
        )
        for i in range(60)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_a_row_is_sent_exactly_when_a_row_predicate_holds(seed: int, cuts: list[int], crowd: bool) -> None:
    rng = random.Random(seed)
    rules = many(rng) if crowd else RULES
    records, expected = [], []
    for i in range(30):
        extra: dict[str, Any] = {}
        if rng.random() < 0.7:
            extra["properties"] = {"plan": rng.choice(("pro", "free"))}
        if rng.random() < 0.5:
            extra["account"] = f"a{rng.randrange(3)}"
        tenant, feature = rng.choice(("acme", "globex")), rng.choice((None, "checkout", "search"))
        product = rng.choice(("app", "web"))
        if rng.random() < 0.5:
            extra["session"] = rng.choice(("s1", "s2"))
        records.append(usage(f"e{i}", T0 + i * 200, "u1", feature, tenant=tenant, product=product, **extra))
        facts = flatten(json.loads(records[-1].value or b""))
        for one in rules:
            assert isinstance(one.trigger, OnEvent)
            about = facts.get(one.trigger.subject)
            facts["subject"] = f"{one.trigger.subject}:{about}"
            if about is not None and one.tenant in ("all", tenant):
                if one.trigger.where is None or holds(one.trigger.where, facts):
                    expected.append((f"e{i}", f"{one.trigger.subject}:{about}", one.name))
    told = Published()
    task = MeterTask(0, 1, catalogue(*rules))
    for one in batches(records, cuts):
        told.take(task.step(one))
    sent = [(s.cause, s.subject, name) for s in signals(told) for name in s.rules]
    assert sorted(sent) == sorted(expected)
    assert all(e.key == f"{s.tenant}|{s.subject}".encode() for e, s in zip(told.signals, signals(told), strict=True))
    assert [int(s.cause[1:]) for s in signals(told)] == sorted(int(s.cause[1:]) for s in signals(told))


def test_duplicates_and_dead_rows_send_nothing() -> None:
    row = usage("e1", T0, "u1", "checkout")
    dead = usage("e2", T0 + 9_000_000, "u1", "checkout", broker=T0)
    told = Published().take(MeterTask(0, 1, catalogue(RULES[0])).step(batch([row, row, dead])))
    assert [s.cause for s in signals(told)] == ["e1"]


def test_a_signal_carries_the_event_and_its_trace() -> None:
    value = usage("e1", T0, "u1", "checkout", properties={"plan": "pro"}, unknown=[1]).value
    record = Record(value, T0, headers=(("traceparent", b"00-aa-bb-01"),))
    told = Published().take(MeterTask(0, 1, catalogue(RULES[0])).step(batch([record])))
    (signal,) = signals(told)
    assert signal.traceparent == "00-aa-bb-01" and signal.at == T0 and signal.act
    assert signal.data["properties"] == {"plan": "pro"} and signal.data["unknown"] == [1]


def test_requests_send_signals_about_their_service() -> None:
    slow = rule("slow", Compare(field="latency_ms", op=">", value=1000), "service", topic="events.performance")
    records = [request("e1", T0, 999), request("e2", T0, 1001), request("e3", T0, 5000, "web", status=500)]
    told = Published().take(MeterTask(0, 1, catalogue(slow)).step(batch(records, PERFORMANCE)))
    assert [(s.cause, s.subject) for s in signals(told)] == [("e2", "service:api"), ("e3", "service:web")]


def test_replayed_data_older_than_a_day_does_not_act() -> None:
    now = T0 + 10 * 86_400_000
    records = [
        marker("begun", T0, now),
        usage("old", T0, "u1", "checkout", broker=now),
        usage("new", now - 1000, "u1", "checkout", broker=now),
        marker("ended", T0, now),
    ]
    told = Published().take(MeterTask(0, 1, catalogue(RULES[0])).step(batch(records)))
    assert [(s.cause, s.act) for s in signals(told)] == [("old", False), ("new", True)]
    acting = [marker("begun", T0, now, act=True), *records[1:]]
    told = Published().take(MeterTask(0, 1, catalogue(RULES[0])).step(batch(acting)))
    assert [s.act for s in signals(told)] == [True, True]


def test_a_rule_applies_from_its_effective_time() -> None:
    later = RULES[0].model_copy(update={"effective_from": T0 + 5})
    records = [usage("before", T0 + 4, "u1", "checkout"), usage("after", T0 + 5, "u1", "checkout")]
    told = Published().take(MeterTask(0, 1, catalogue(later)).step(batch(records)))
    assert [s.cause for s in signals(told)] == ["after"]


def test_a_field_that_cannot_be_read_hides_no_row_from_its_rule() -> None:
    """METER decodes what is declared; a row whose other fields are no text counts, and its rule sees what is declared."""
    value = b'{"id":"1","tenant":"acme","product":"app","type":"feature.used","feature":"checkout","user":"ann","occurred_at":'
    value += str(T0).encode() + b',"x":"\xff"}'
    task = MeterTask(0, 1, catalogue(rule("checkout", equal("feature", "checkout"))))
    [sent] = signals(Published().take(task.step(batch([Record(value, T0)]))))
    assert sent.subject == "user:ann" and sent.data["feature"] == "checkout" and "x" not in sent.data


def test_rules_that_remember_get_every_event_of_their_steps() -> None:
    def remembering(name: str, **trigger: Any) -> Rule:
        return Rule.model_validate({"name": name, "id": name, "trigger": trigger, "command": COMMAND})

    cart = {"topic": "events.usage", "where": 'feature == "cart"'}
    bought = {"topic": "events.usage", "where": 'feature == "purchase"'}
    failed = {"topic": "events.performance", "where": "latency_ms > 1000"}
    rules = (
        remembering("left", kind="absence", first=cart, then=bought, within_s=60),
        remembering("failed", kind="sequence", steps=[cart, failed], within_s=60, subject="service"),
        remembering("often", kind="count", **cart, times=3, within_s=60, subject="account"),
    )
    rows = [
        usage("e1", T0, "u1", "cart", account="a1"),
        usage("e2", T0, "u1", "purchase"),
        usage("e3", T0, "u1", "search"),
    ]
    told = Published().take(MeterTask(0, 1, catalogue(*rules)).step(batch(rows)))
    assert [(s.cause, s.subject, s.rules) for s in signals(told)] == [
        ("e1", "user:u1", ["left"]),
        ("e1", "account:a1", ["often"]),
        ("e2", "user:u1", ["left"]),
    ]
    requests = [request("e4", T0, 999), request("e5", T0, 1001)]
    told = Published().take(MeterTask(0, 1, catalogue(*rules)).step(batch(requests, PERFORMANCE)))
    assert [(s.cause, s.subject, s.rules) for s in signals(told)] == [("e5", "service:api", ["failed"])]
