"""The column mask is never narrower than the row predicate, and equals it where every field is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.rules.columns import Columns, required
from core.rules.conditions import holds
from schemas.definitions import All, AnyOf, Compare, Condition, Not

FIELDS = ("a", "b", "c")
VALUES: list[Any] = [None, True, False, 0, 1, 1.5, "", "x", "xy", "1"]
OPS = ("==", "!=", "<", "<=", ">", ">=", "in", "contains", "starts_with", "missing")


def compare() -> st.SearchStrategy[Condition]:
    value = st.sampled_from(VALUES)
    return st.builds(
        lambda field, op, one, many: Compare(field=field, op=op, value=many if op == "in" else one),
        st.sampled_from(FIELDS),
        st.sampled_from(OPS),
        value,
        st.lists(value, max_size=3),
    )


CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    compare(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda of: All(of=of)),
        st.lists(inner, max_size=3).map(lambda of: AnyOf(of=of)),
        inner.map(lambda of: Not(of=of)),
    ),
    max_leaves=8,
)
ROWS = st.lists(st.fixed_dictionaries({f: st.sampled_from(VALUES) for f in FIELDS}), max_size=8)


def columns(rows: list[dict[str, Any]], known: set[str]) -> Columns:
    fields = {}
    for name in known:
        values = dict(enumerate(r[name] for r in rows))
        fields[name] = (np.arange(len(rows), dtype=np.int64), values)
    return Columns(len(rows), fields)


@given(CONDITIONS, ROWS, st.sets(st.sampled_from(FIELDS)))
def test_the_mask_is_never_narrower_than_the_row_predicate(
    condition: Condition, rows: list[dict[str, Any]], known: set[str]
) -> None:
    mask = columns(rows, known).possible(condition)
    truth = np.array([holds(condition, row) for row in rows], np.bool_)
    assert not (truth & ~mask).any()
    if known == set(FIELDS):
        assert (truth == mask).all()


@given(CONDITIONS, ROWS)
def test_what_a_rule_is_indexed_by_is_required(condition: Condition, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if holds(condition, row):
            for field, values in required(condition).items():
                assert row[field] in values


def test_no_condition_lets_every_row_through() -> None:
    assert columns([{"a": 1, "b": 2, "c": 3}], set()).possible(None).all()
    assert required(None) == {}


def test_an_any_requires_what_all_of_its_parts_do() -> None:
    a, b = Compare(field="feature", op="==", value="a"), Compare(field="feature", op="in", value=["b", "c"])
    typed = All(of=[Compare(field="type", op="==", value="t"), b])
    assert required(AnyOf(of=[a, b])) == {"feature": ["a", "b", "c"]}
    assert required(AnyOf(of=[a, typed])) == {"feature": ["a", "b", "c"]}
    assert required(AnyOf(of=[a, Not(of=b)])) == {} == required(AnyOf(of=[]))
