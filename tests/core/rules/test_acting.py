"""What a match becomes, in which order, and that the books always balance."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from core.decide.explain import Case
from core.decide.packing import decode, read_key
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.rules.acting import HOUR_MS, Actor, Occasion
from core.rules.memory import drain_actor, load_actor
from schemas.commands import Command, command_id
from schemas.definitions import CommandTemplate, Compare, OnViral, Pause, Rule
from schemas.delivery import Receipt

CASE = Case("because", {"n": 1.0}, {"limit": 2.0}, {"metrics": "/m"}, adopters=3, target=10, feature="f")


def a_rule(**more: object) -> Rule:
    fields = {
        "name": "r",
        "id": "r",
        "trigger": OnViral(),
        "command": CommandTemplate(type="product.thing.do", title="{{ n }}", text="t", segment="non_adopters"),
        **more,
    }
    return Rule.model_validate(fields)


def an_occasion(**more: object) -> Occasion:
    fields: dict[str, object] = {
        "tenant": "acme",
        "product": "shop",
        "subject": "feature:f",
        "cause": "c1",
        "at": 10 * HOUR_MS,
        "act": True,
        "facts": {"n": 1},
        "case": CASE,
        "broker_time": 10 * HOUR_MS + 2_500,
        **more,
    }
    return Occasion(**fields)  # type: ignore[arg-type]


def commands(effects: list[Effect]) -> list[Command]:
    return [
        Command.model_validate_json(e.value or b"")
        for e in effects
        if isinstance(e, Emit) and e.topic.startswith("commands.")
    ]


def reasons(effects: list[Effect]) -> list[str | None]:
    return [
        Receipt.model_validate_json(e.value or b"").reason
        for e in effects
        if isinstance(e, Emit) and e.topic == "receipts"
    ]


def test_a_rule_in_shadow_records_what_it_would_have_sent_and_sends_nothing() -> None:
    """Its cool-down and ceiling are its own: once it acts, nothing of the shadow holds it back, and its ids are the same."""
    actor = Actor(Catalogue(), "decide")
    rule = a_rule(mode="shadow", cooldown_s=3_600)
    first = actor.meet([rule], an_occasion())
    again = actor.meet([rule], an_occasion(cause="c2", at=10 * HOUR_MS + 1))
    assert commands(first) == commands(again) == []
    assert (reasons(first), reasons(again)) == (["shadow"], ["cooldown"])
    (emit,) = [e for e in first if isinstance(e, Emit)]
    shadowed = Receipt.model_validate_json(emit.value or b"").shadowed
    acting = actor.meet([a_rule(cooldown_s=3_600)], an_occasion(at=10 * HOUR_MS + 2))
    (command,) = commands(acting)
    assert shadowed is not None and shadowed.id == command.id and shadowed.payload == command.payload
    assert (actor.books.matched, actor.books.commanded, actor.books.suppressed, actor.books.difference) == (3, 1, 2, 0)


def test_a_command() -> None:
    effects = Actor(Catalogue(), "decide").meet([a_rule(expires_after_s=60)], an_occasion())
    (command,) = commands(effects)
    assert command.id == command_id("acme", "r", "feature:f", "c1")
    assert command.expires_at == 10 * HOUR_MS + 62_500 and command.issued_at == 10 * HOUR_MS
    assert command.segment is not None and command.segment.size == 7 and command.segment.name == "f:non_adopters"
    assert command.segment.link == "/api/v1/products/shop/segments/f/non_adopters/members?tenant=acme"
    (emit,) = [e for e in effects if isinstance(e, Emit)]
    assert (emit.topic, emit.key) == ("commands.product", b"acme|feature:f")
    assert command.title == "1" and command.why.reason == "because"


def test_order_of_reasons() -> None:
    catalogue = Catalogue()
    actor = Actor(catalogue, "decide")
    rule = a_rule(cooldown_s=60, ceiling_per_hour=2, condition=Compare(field="n", op="==", value=1))
    at = 10 * HOUR_MS
    assert actor.meet([rule], an_occasion(facts={"n": 2})) == [], "the condition does not hold: no match"
    assert actor.meet([a_rule(effective_from=at + 1)], an_occasion()) == [], "not in force yet: no match"
    assert len(commands(actor.meet([rule], an_occasion()))) == 1
    assert reasons(actor.meet([rule], an_occasion(cause="c2", at=at + 59_999))) == ["cooldown"]
    assert reasons(actor.meet([rule], an_occasion(cause="c3", at=at + 60_000, act=False))) == ["backfill"]
    assert len(commands(actor.meet([rule], an_occasion(cause="c4", at=at + 60_000)))) == 1
    assert reasons(actor.meet([rule], an_occasion(cause="c5", at=at + 120_000))) == ["ceiling"]
    assert len(commands(actor.meet([rule], an_occasion(cause="c6", at=at + HOUR_MS)))) == 1, "another hour"
    assert len(commands(actor.meet([rule], an_occasion(cause="c6", product="crm", at=at + HOUR_MS)))) == 1
    catalogue.put(Pause(name="rule:r", scope="rule", of="r"))
    assert reasons(actor.meet([rule], an_occasion(cause="c7", at=at + 2 * HOUR_MS, act=False))) == ["paused"]
    books = actor.books
    assert (books.matched, books.commanded, books.suppressed, books.failed) == (8, 4, 4, 0)


def test_a_template_that_fails_is_counted_and_costs_nothing() -> None:
    actor = Actor(Catalogue(), "decide")
    effects = actor.meet([a_rule(cooldown_s=60)], an_occasion(facts={}))
    assert Count("uptake_failed_total", 1, ("decide", "render")) in effects and not commands(effects)
    assert len(commands(actor.meet([a_rule(cooldown_s=60)], an_occasion()))) == 1, "no cool-down was begun"
    assert actor.books.difference == 0


def test_buckets() -> None:
    actor = Actor(Catalogue(), "decide")
    rule = a_rule(cooldown_s=60)
    at = 10 * HOUR_MS

    def meet(moment: int) -> list[Effect]:
        return actor.meet([rule], an_occasion(cause=f"e{moment}", at=moment, bucketed=True))

    (late,) = commands(meet(at + 59_999))
    assert late.cause == str(at) and late.id == command_id("acme", "r", "feature:f", str(at))
    assert reasons(meet(at)) == ["cooldown"], "the same bucket, whichever row came first"
    assert len(commands(meet(at + 60_000))) == 1
    assert len(commands(meet(at - 1))) == 1, "an older bucket that comes later"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.booleans(), st.booleans()), max_size=30), st.data()
)
def test_memory_survives_and_books_balance(met: list[tuple[int, int, bool, bool]], data: st.DataObject) -> None:
    """An actor rebuilt from its rows at any point goes on as the one that never stopped."""
    rule = a_rule(cooldown_s=300, ceiling_per_hour=4)
    whole, broken = Actor(Catalogue(), "d"), Actor(Catalogue(), "d")
    rows: dict[bytes, bytes] = {}
    for i, (subject, minutes, act, renders) in enumerate(met):
        occasion = an_occasion(
            subject=f"user:{subject}",
            cause=f"e{i}",
            at=minutes * 60_000,
            act=act,
            bucketed=True,
            facts={"n": 1} if renders else {},
        )
        one, two = whole.meet([rule], occasion), broken.meet([rule], occasion)
        assert [e for e in one if isinstance(e, Emit)] == [e for e in two if isinstance(e, Emit)]
        if data.draw(st.booleans()):
            for key, value in drain_actor(broken):
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
            broken = Actor(Catalogue(), "d")
            for key, value in rows.items():
                row, *scope = read_key(key)
                assert load_actor(broken, row, scope, decode(value))
    assert whole.books == broken.books and whole.books.difference == 0
    assert json.dumps(sorted(map(str, whole.memory.hours.items()))) == json.dumps(
        sorted(map(str, broken.memory.hours.items()))
    )
