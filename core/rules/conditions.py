"""Conditions over facts: the row predicate.

Facts are a flat mapping from dotted paths to scalars or lists: `{"feature": "export", "properties.plan": "pro"}`.
A missing fact and a null one are the same: of all operators only `!=` and `missing` hold on it. Numbers compare with
numbers and strings with strings; any other pair is unequal and unordered, and `true` is no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from core.rules.moments import within
from schemas.definitions import All, AnyOf, Compare, Condition, During, Not

Facts = Mapping[str, object]

_PLAIN = frozenset((str, int, float, bool, list, type(None)))
MAX_DEPTH = 16
"""Deepest nesting of facts that is flattened; what lies deeper stays whole."""


def flatten(value: Mapping[str, object]) -> dict[str, object]:
    """Nested mappings as dotted paths; lists stay whole. A key that holds a dot is taken as it is.

    >>> flatten({"user": "u1", "properties": {"plan": {"tier": 2}}})
    {'user': 'u1', 'properties.plan.tier': 2}
    """
    flat: dict[str, object] = {}
    for key, item in value.items():
        if type(item) in _PLAIN:  # nearly all are, and asking whether a text is a mapping is slow
            flat[key] = item
        else:
            _put(flat, key, item, 1)
    return flat


def _put(flat: dict[str, object], path: str, item: object, depth: int) -> None:
    if depth > MAX_DEPTH or not (type(item) is dict or isinstance(item, Mapping)):  # the former is much faster to ask
        flat[path] = item
        return
    for key, inner in item.items():
        if type(inner) in _PLAIN:
            flat[f"{path}.{key}"] = inner
        else:
            _put(flat, f"{path}.{key}", inner, depth + 1)


def holds(condition: Condition, facts: Facts) -> bool:
    """Whether the condition holds on these (flat) facts. Never raises for what the facts contain."""
    match condition:
        case Compare():
            return _compare(condition, facts.get(condition.field))
        case All():
            return all(holds(c, facts) for c in condition.of)
        case AnyOf():
            return any(holds(c, facts) for c in condition.of)
        case Not():
            return not holds(condition.of, facts)
        case During():
            return within(condition, facts)
        case _:
            assert_never(condition)


def fields(condition: Condition) -> set[str]:
    """Every fact that the condition asks for."""
    match condition:
        case Compare():
            return {condition.field}
        case All() | AnyOf():
            return set().union(*(fields(c) for c in condition.of))
        case Not():
            return fields(condition.of)
        case During():
            return {condition.field} | ({condition.zone_field} if condition.zone_field else set())
        case _:
            assert_never(condition)


def _compare(condition: Compare, fact: object) -> bool:
    op, value = condition.op, condition.value
    if fact is None:
        return op in ("!=", "missing")
    match op:
        case "missing":
            return False
        case "==":
            return _equal(fact, value)
        case "!=":
            return not _equal(fact, value)
        case "<":
            return _order(fact, value) == -1
        case "<=":
            return _order(fact, value) in (-1, 0)
        case ">":
            return _order(fact, value) == 1
        case ">=":
            return _order(fact, value) in (0, 1)
        case "in":
            return isinstance(value, list) and any(_equal(fact, v) for v in value)
        case "contains":
            if isinstance(fact, str):
                return isinstance(value, str) and value in fact
            return isinstance(fact, (list, tuple)) and any(_equal(f, value) for f in fact)
        case "starts_with":
            return isinstance(fact, str) and isinstance(value, str) and fact.startswith(value)
        case "ends_with":
            return isinstance(fact, str) and isinstance(value, str) and fact.endswith(value)
        case _:
            assert_never(op)


def _number(value: object) -> float | int | None:
    """The value, where it is a number."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _equal(a: object, b: object) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if (_number(a) is None) != (_number(b) is None):
        return False
    return a == b


def _order(a: object, b: object) -> int | None:
    """-1, 0 or 1; None where the two have no order."""
    x, y = _number(a), _number(b)
    if x is not None and y is not None:
        return (x > y) - (x < y) if x == x and y == y else None  # NaN has no order
    if isinstance(a, str) and isinstance(b, str):
        return (a > b) - (a < b)
    return None
