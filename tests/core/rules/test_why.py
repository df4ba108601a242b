"""Why a condition held: every predicate with its value, and the parts say what the whole says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.rules.conditions import holds
from core.rules.why import (
    band_checks,
    checks,
    first_failed,
    share_held,
    stage_checks,
    threshold_checks,
    told,
    viral_checks,
)
from schemas.cel import parse
from schemas.conditions import All, AnyOf, Compare, Condition, Not
from schemas.definitions import OnBand, OnStage, Product, Threshold
from tests.helpers.words import a_health_row, an_adoption_row
from tests.schemas.test_cel import in_one_form, trees

SHOP = Product(tenant="acme", name="shop")


def test_each_predicate_has_its_value() -> None:
    condition = parse('users >= 50 && !feature.startsWith("internal-") && (plan == "pro" || seats > 5)')
    found = checks(condition, {"users": 60, "feature": "internal-x", "seats": 3})
    assert [(c.text, c.value, c.held) for c in found] == [
        ("users >= 50", 60, True),
        ('!(feature.startsWith("internal-"))', "internal-x", False),
        ('plan == "pro" || seats > 5', None, False),
    ]
    assert [(c.text, c.value, c.held) for c in found[2].parts] == [
        ('plan == "pro"', None, False),
        ("seats > 5", 3, False),
    ]
    failed = first_failed(found)
    assert failed is not None
    assert told(failed) == "`!(feature.startsWith(\"internal-\"))` does not hold: the value is 'internal-x'"
    assert share_held(found) == 1 / 3


def test_no_condition_asks_for_nothing() -> None:
    assert checks(None, {}) == []
    assert first_failed([]) is None
    assert share_held([]) == 1.0


FACTS = st.dictionaries(
    st.sampled_from(["feature", "a", "in", "at"]), st.none() | st.integers() | st.text(max_size=3) | st.booleans()
)


@settings(deadline=None)
@given(trees(2).filter(in_one_form), FACTS)
def test_the_parts_say_what_the_condition_says(condition: Condition, facts: dict[str, object]) -> None:
    found = checks(condition, facts)
    assert all(c.held for c in found) is holds(condition, facts)
    assert (first_failed(found) is None) is holds(condition, facts)
    for check in found:
        assert holds(parse(check.text), facts) is check.held


def test_any_of_none_and_of_one() -> None:
    one = AnyOf(of=[Compare(field="a", op="==", value=1)])
    failed = first_failed(checks(one, {"a": 2}))
    assert failed is not None
    assert failed.text == "a == 1"
    assert first_failed(checks(Not(of=All(of=[])), {})) is not None
    assert first_failed(checks(AnyOf(of=[]), {})) is not None


def test_stages_say_the_borders() -> None:
    row = an_adoption_row("7d", users=10, target_users=40, adoption_rate=0.25, stage="growth")
    found = stage_checks(OnStage(stages=["low"]), row, SHOP)
    assert [(c.text, c.value, c.held) for c in found] == [
        ('stage in ["low"]', "growth", False),
        ("target_users >= 20", 40, True),
        ("adoption_rate < 0.2", 0.25, False),
    ]
    nothing = an_adoption_row("7d", users=3, target_users=4, adoption_rate=None, stage="no_data", organic_share=None)
    assert [c.held for c in stage_checks(OnStage(stages=["low"]), nothing, SHOP)] == [False, False, False]
    assert [c.held for c in viral_checks(row.model_copy(update={"organic_share": 0.9, "users": 30}), SHOP)] == [
        False,
        True,
        True,
    ]


def test_bands_and_thresholds_say_the_limits() -> None:
    found = band_checks(OnBand(bands=["critical"]), a_health_row(score=71.5, band="stable"), SHOP)
    assert [(c.text, c.value, c.held) for c in found][:2] == [
        ('band in ["critical"]', "stable", False),
        ("score < 40.0", 71.5, False),
    ]
    assert found[-1].value == {"reliability": 71.5}
    slow = Threshold(name="slow", metric="error_rate", op=">", limit=0.05, for_s=60)
    assert [(c.text, c.held) for c in threshold_checks(slow, 0.2, "pending", 5)] == [
        ("error_rate > 0.05", True),
        ('phase == "firing"', False),
    ]
    assert threshold_checks(slow, None, None, None)[0].held is False
