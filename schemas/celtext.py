"""Conditions written as CEL text: the other way of `schemas.cel`. Needs no parser, so whatever shows conditions can use it."""

from __future__ import annotations

import json
import re
from typing import Final, assert_never

from pydantic import JsonValue

from schemas.conditions import All, AnyOf, Compare, Condition, During, Not

METHODS: Final = {"startsWith": "starts_with", "endsWith": "ends_with", "contains": "contains"}
"""CEL's name → the operator."""
FACTS: Final = "facts"
"""The name under which any fact can be named: `facts["a fact"]`."""
RESERVED: Final = frozenset(
    "as break const continue else false for function if import in let loop namespace null package return true var void while".split()
)
"""Words of the language, which are no names."""
_NAME: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_CALLS: Final = {op: name for name, op in METHODS.items()}


def to_cel(condition: Condition) -> str:
    """The condition as CEL text."""
    match condition:
        case All() | AnyOf():
            if not condition.of:
                return "true" if isinstance(condition, All) else "false"
            sign = " && " if isinstance(condition, All) else " || "
            return sign.join(_within(part, condition) for part in condition.of)
        case Not(of=Compare(op="missing", field=field)):
            return f"has({_path(field)})"
        case Not(of=(All() | AnyOf() | During()) as inner):
            return f"!({to_cel(inner)})"
        case Not():
            return f"!({to_cel(condition.of)})"
        case Compare(op="missing"):
            return f"!has({_path(condition.field)})"
        case Compare(op="in"):
            return f"{_path(condition.field)} in {literal(condition.value)}"
        case Compare(op="contains", value=str()) | Compare(op="starts_with" | "ends_with"):
            return f"{_path(condition.field)}.{_CALLS[condition.op]}({literal(condition.value)})"
        case Compare(op="contains"):
            return f"{literal(condition.value)} in {_path(condition.field)}"
        case Compare():
            return f"{_path(condition.field)} {condition.op} {literal(condition.value)}"
        case During():
            return f"during({literal(condition.model_dump(mode='json', exclude={'kind'}, exclude_defaults=True))})"
        case _:
            assert_never(condition)


def _within(part: Condition, outer: All | AnyOf) -> str:
    text = to_cel(part)
    return f"({text})" if isinstance(part, (All, AnyOf)) and part.of and len(part.of) + len(outer.of) > 1 else text


def _path(field: str) -> str:
    root, *rest = field.split(".")
    if not _plain(root) or root == FACTS or not all(rest):
        return f"{FACTS}[{literal(field)}]"
    return root + "".join(f".{part}" if _plain(part) else f"[{literal(part)}]" for part in rest)


def _plain(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name not in RESERVED


def literal(value: JsonValue) -> str:
    """JSON is CEL, but for what ends a line without being one in JSON, and numbers that JSON does not have."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
