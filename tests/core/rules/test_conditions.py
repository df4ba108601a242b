"""What a condition holds on, and what it does not."""

from __future__ import annotations

import pytest
from pydantic import JsonValue, TypeAdapter

from core.rules.conditions import fields, flatten, holds
from schemas.definitions import Compare, Condition

CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)
FACTS = flatten(
    {
        "feature": "export",
        "latency_ms": 250,
        "error": True,
        "none": None,
        "tags": ["a", "b", 3],
        "properties": {"plan": "pro", "seats": 12, "deep": {"x": 1.5}},
    }
)


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("feature", "==", "export", True),
        ("feature", "==", "import", False),
        ("feature", "!=", "import", True),
        ("feature", "<", "f", True),
        ("feature", ">=", "export", True),
        ("feature", "starts_with", "ex", True),
        ("feature", "contains", "por", True),
        ("feature", "contains", 3, False),
        ("feature", "in", ["export", "x"], True),
        ("feature", "in", "export", False),
        ("feature", "<", 3, False),
        ("feature", ">", 3, False),
        ("latency_ms", ">", 249.5, True),
        ("latency_ms", "<=", 250, True),
        ("latency_ms", ">", 250, False),
        ("latency_ms", "==", 250.0, True),
        ("latency_ms", "==", "250", False),
        ("error", "==", True, True),
        ("error", "==", 1, False),
        ("error", ">", 0, False),
        ("tags", "contains", "b", True),
        ("tags", "contains", 3.0, True),
        ("tags", "contains", "z", False),
        ("properties.plan", "==", "pro", True),
        ("properties.deep.x", ">=", 1.5, True),
        ("nothing", "missing", None, True),
        ("none", "missing", None, True),
        ("feature", "missing", None, False),
        ("nothing", "!=", "x", True),
        ("nothing", "!=", None, True),
        ("nothing", "==", None, False),
        ("nothing", "<", 1, False),
        ("nothing", "in", [None], False),
        ("latency_ms", "<", float("nan"), False),
        ("latency_ms", ">=", float("nan"), False),
    ],
)
def test_compare(field: str, op: str, value: JsonValue, expected: bool) -> None:
    condition = Compare.model_validate({"field": field, "op": op, "value": value})
    assert holds(condition, FACTS) is expected


def test_tree() -> None:
    plan = {"kind": "compare", "field": "properties.plan", "op": "==", "value": "pro"}
    slow = {"kind": "compare", "field": "latency_ms", "op": ">", "value": 1000}
    assert holds(CONDITION.validate_python({"kind": "any", "of": [plan, slow]}), FACTS)
    assert not holds(CONDITION.validate_python({"kind": "all", "of": [plan, slow]}), FACTS)
    assert holds(CONDITION.validate_python({"kind": "all", "of": [plan, {"kind": "not", "of": slow}]}), FACTS)
    assert holds(CONDITION.validate_python({"kind": "all", "of": []}), FACTS)
    assert not holds(CONDITION.validate_python({"kind": "any", "of": []}), FACTS)


def test_fields() -> None:
    tree = {
        "kind": "all",
        "of": [
            {"kind": "not", "of": {"kind": "compare", "field": "a.b", "op": "missing"}},
            {"kind": "compare", "field": "c", "op": "==", "value": 1},
        ],
    }
    assert fields(CONDITION.validate_python(tree)) == {"a.b", "c"}
