"""Hold-outs: who is held, what is refused, and that the books balance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.decide.explain import Case
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.outcomes.arms import is_held, signature
from core.rules.acting import HOUR_MS, Actor, Occasion
from core.rules.lint import rule_findings
from schemas.definitions import CommandTemplate, Rule
from schemas.delivery import Receipt

EVENT = {"kind": "event", "topic": "events.usage", "where": 'type == "user.signed_up"'}
CONVERSION = {"metric": {"kind": "conversion", "where": 'type == "purchase.completed"'}, "within_s": 86_400}
FIGURE = {"metric": {"kind": "figure", "metric": "error_rate"}, "within_s": 86_400, "direction": "down"}


def a_rule(**more: object) -> Rule:
    fields: dict[str, object] = {
        "name": "r",
        "id": "r",
        "trigger": EVENT,
        "command": CommandTemplate(type="marketing.email.send", title="t", text="t"),
        **more,
    }
    return Rule.model_validate(fields)


def meet(actor: Actor, rule: Rule, subject: str, at: int = 10 * HOUR_MS, by_hand: bool = False) -> list[Effect]:
    case = Case("because", {"n": 1.0}, {"limit": 2.0}, {"metrics": "/m"})
    occasion = Occasion(
        tenant="acme",
        product="shop",
        subject=subject,
        cause=f"{subject}@{at}",
        at=at,
        act=True,
        facts={"probability": 0.4},
        case=case,
        broker_time=at,
        by_hand=by_hand,
    )
    return list(actor.meet([rule], occasion))


def reasons(effects: list[Effect]) -> list[str | None]:
    return [
        Receipt.model_validate_json(e.value or b"").reason
        for e in effects
        if isinstance(e, Emit) and e.topic == "receipts"
    ]


@given(st.text(min_size=1, max_size=20), st.floats(0, 0.5), st.floats(0, 0.5))
def test_sticky_and_growing(subject: str, a: float, b: float) -> None:
    small, large = sorted((a, b))
    assert is_held("acme", "r", subject, small) == is_held("acme", "r", subject, small)
    assert not is_held("acme", "r", subject, small) or is_held("acme", "r", subject, large)


def test_the_share_is_what_it_says_and_rules_draw_apart() -> None:
    users = [f"user:{i}" for i in range(20_000)]
    one = {u for u in users if is_held("acme", "r", u, 0.1)}
    other = {u for u in users if is_held("acme", "s", u, 0.1)}
    assert abs(len(one) - 2_000) < 140 and abs(len(one & other) - 200) < 50
    assert {u for u in users if is_held("globex", "r", u, 0.1)} != one
    assert not any(is_held("acme", "r", u, 0.0) for u in users)


def test_held_subjects_cool_down_alike_and_the_books_balance() -> None:
    rule = a_rule(holdout=0.5, cooldown_s=3_600, outcome=CONVERSION)
    actor = Actor(Catalogue(), "decide")
    held = next(f"user:{i}" for i in range(99) if is_held("acme", "r", f"user:{i}", 0.5))
    treated = next(f"user:{i}" for i in range(99) if not is_held("acme", "r", f"user:{i}", 0.5))
    assert reasons(meet(actor, rule, held)) == ["hold_out"] and reasons(meet(actor, rule, treated)) == []
    assert reasons(meet(actor, rule, held, 10 * HOUR_MS + 1)) == ["cooldown"], "it would have cooled down"
    assert reasons(meet(actor, rule, treated, 10 * HOUR_MS + 1)) == ["cooldown"]
    assert [(e.subject, e.held, e.probability) for e, _ in actor.exposed] == [(held, True, 0.4), (treated, False, 0.4)]
    assert actor.memory.hours["r", "acme", "shop"] == {10: 1}, "who is held out takes no room"
    assert actor.books.difference == 0 and (actor.books.commanded, actor.books.suppressed) == (1, 3)


def test_who_is_asked_for_by_hand_is_not_held_out() -> None:
    actor, rule = Actor(Catalogue(), "decide"), a_rule(holdout=0.5, outcome=CONVERSION)
    effects = [e for i in range(20) for e in meet(actor, rule, f"user:{i}", by_hand=True)]
    assert reasons(effects) == [] and actor.exposed == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"holdout": 0.6}, "less than or equal to 0.5"),
        ({"holdout": 0.1, "trigger": {"kind": "stage", "stages": ["low"]}}, "nothing is left to compare with"),
        (
            {"holdout": 0.1, "trigger": {"kind": "band", "bands": ["critical"]}},
            "a critical product needs is never held out",
        ),
        ({"holdout": 0.1, "trigger": {**EVENT, "subject": "service"}}, "about a service, of which there is one"),
        ({"holdout": 0.1, "transactional": True}, "asked for or is owed"),
        ({"holdout": 0.1, "level": 2}, "interventions of level 2 and 3"),
        ({"holdout": 0.1, "level": 3}, "interventions of level 2 and 3"),
        ({"outcome": FIGURE}, "measured by a conversion"),
        ({"outcome": CONVERSION, "trigger": {"kind": "viral"}}, "measured by a figure"),
        (
            {"outcome": {**FIGURE, "within_s": 60}, "trigger": {"kind": "viral"}},
            "the window after the command (1d) would hold time from before it",
        ),
    ],
)
def test_refused(more: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says.replace("(", r"\(").replace(")", r"\)")):
        a_rule(**more)


@pytest.mark.parametrize(
    ("more", "path", "level", "says"),
    [
        ({"outcome": CONVERSION}, ("outcome",), "warning", "nobody is held out to compare with"),
        ({"holdout": 0.1}, ("holdout",), "warning", "nothing is measured"),
        (
            {"holdout": 0.1, "outcome": {**CONVERSION, "metric": {"kind": "conversion", "where": "usr == 1"}}},
            ("outcome", "metric", "where", "field"),
            "error",
            "did you mean user?",
        ),
        (
            {
                "holdout": 0.1,
                "outcome": {**CONVERSION, "metric": {"kind": "conversion", "where": "has(user)", "value": "user"}},
            },
            ("outcome", "metric", "value"),
            "error",
            "a number is asked for",
        ),
        (
            {"undo": {"type": "marketing.email.recall", "title": "{{ comand }}", "text": "{{ command }}"}},
            ("undo", "title"),
            "warning",
            "'comand'",
        ),
    ],
)
def test_plan_finds(more: dict[str, object], path: tuple[str, ...], level: str, says: str) -> None:
    (found,) = rule_findings(a_rule(**more))
    assert (found.path, found.level) == (path, level) and says in found.reason


def test_level_1_may_be_held_out() -> None:
    assert a_rule(holdout=0.1, level=1).holdout == 0.1


def test_an_experiment_is_of_what_is_measured() -> None:
    rule = a_rule(holdout=0.1, outcome=CONVERSION)
    assert signature(rule) == signature(
        a_rule(holdout=0.1, outcome=CONVERSION, owner="x", description="y", cooldown_s=5)
    )
    for more in ({"holdout": 0.2}, {"command": CommandTemplate(type="marketing.email.send", title="new", text="t")}):
        assert signature(a_rule(**{"holdout": 0.1, "outcome": CONVERSION, **more})) != signature(rule)
