"""What tests say is known of people becomes events; profiles made of these say the same. Steps keep apart what has an order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.acting_out import LATER_MS, parted, steps
from app.simulate.beside import Happened, Planted, planted
from app.simulate.profiles import known, told
from core.people.facts import facts_of
from core.people.profile import Profile
from core.rulebook import Case, examples, trips
from schemas.events import EVENTS

ROOT = Path(__file__).parents[3] / "rulebook"
TEXTS = {p.name: p.read_text() for p in sorted(ROOT.rglob("*.yaml"))}
CASES = [case for case in examples(TEXTS) if known(case.example.given)]
PLANTED = list(planted(examples(TEXTS), trips(TEXTS)))


@pytest.mark.parametrize("case", CASES, ids=[f"{c.rule.id}-{i}" for i, c in enumerate(CASES)])
def test_a_profile_made_of_the_events_says_what_the_example_says(case: Case) -> None:
    profile = Profile()
    for n, (_, before, body) in enumerate(told(case.example.given, "ann")):
        assert profile.fold(body, 10**13 - before, f"e{n}", "contact:ann") == []
    facts = facts_of("contact:ann", profile, [], {})
    for root, given in known(case.example.given).items():
        assert _within(given, facts[root]), (root, facts[root])


def _within(given: Any, found: Any) -> bool:
    if isinstance(given, dict):
        return isinstance(found, dict) and all(_within(v, found.get(k)) for k, v in given.items() if k != "id")
    return bool(given == found)


def test_what_no_event_tells_is_refused() -> None:
    with pytest.raises(ValueError, match="counts"):
        told({"contact": {"open_rate": 0.5}}, "ann")
    with pytest.raises(ValueError, match=r"contact\.mood"):
        told({"contact": {"mood": "good"}}, "ann")


@pytest.mark.parametrize("test", PLANTED, ids=[f"{t.of}-{t.tenant}" for t in PLANTED])
def test_every_planted_event_is_one_that_its_topic_takes(test: Planted) -> None:
    for event in test.events:
        EVENTS[event.topic].model_validate(event.body)


def happened(tenant: str, topic: str, at: int) -> Happened:
    return Happened(topic, at, {"tenant": tenant})


def test_a_step_ends_where_a_tenant_goes_on_elsewhere_or_later_and_nowhere_else() -> None:
    a, b = happened("a", "t", 0), happened("b", "t", 1)
    near, elsewhere = happened("a", "t", 2), happened("a", "u", 3)
    other, late = happened("c", "u", 3 + LATER_MS), happened("a", "u", 4 + LATER_MS)
    assert list(steps([a, b, near, elsewhere, other, late])) == [[a, b, near], [elsewhere, other], [late]]


def test_rests_cut_where_they_say() -> None:
    rows = [happened("a", "t", at) for at in (0, 9, 10, 11, 30)]
    assert list(parted(rows, [10, 20])) == [rows[:2], rows[2:4], rows[4:]]
