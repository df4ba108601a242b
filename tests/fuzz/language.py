"""Doors of what stands inside definitions: conditions and templates."""

from __future__ import annotations

import json
from functools import cache
from random import Random
from typing import Any

import orjson
from pydantic import ValidationError

from core.rules.columns import Columns
from core.rules.conditions import fields, flatten, holds
from core.rules.render import MAX_OUTPUT_CHARS, Renderer, RenderError
from schemas.definitions import OnEvent
from tests.fuzz.mutate import NASTY, damaged, spoiled
from tests.fuzz.samples import Outcome, all_definitions

_OPS = ("==", "!=", "<", "<=", ">", ">=", "in", "contains", "starts_with", "missing")
_NAMES = ("feature", "user", "properties.plan", "properties.n", "nothing", "")
_WORDS = (
    "a", "b.c", "deep", "big", "numbers", "a.b.c.d", "x[0]", "x[-1]", "x['k']", "1", "0", "-1", "1.5", "1e400",
    "9" * 30, "'t'", "'\\ud800'",
    "none", "true", "[1, 2]", "(1, 2)", "{}", "self", "loop", "_", "__class__", "a.__class__", "''.__class__.__mro__",
)  # fmt: skip
_JOINS = (
    " + ",
    " - ",
    " * ",
    " / ",
    " // ",
    " % ",
    " ** ",
    " ~ ",
    " and ",
    " or ",
    " if a else ",
    " == ",
    " < ",
    " in ",
    " is ",
    "|",
    ".",
    "(",
    ")",
    "[",
    "]",
    ", ",
    "=",
)
_FILTERS = (
    "upper", "lower", "round(2)", "round(999999999, 'ceil')", "round(1, 'floor')", "default('x')", "default(a, true)",
    "first", "last", "sum",
    "sum(start=[])", "length", "sort", "min", "max", "int", "int(1, 99)", "float", "truncate(5)",
    "truncate(10 ** 9)", "string", "title", "trim", "abs",
    "map('x')", "join(',')", "format(1)", "replace('a', 'b' * 9999)", "attr('__class__')", "tojson", "center(99999999)",
)  # fmt: skip
_BLOCKS = (
    "{% if a %}",
    "{% else %}",
    "{% elif b %}",
    "{% endif %}",
    "{% for i in x %}",
    "{% endfor %}",
    "{% set a = 1 %}",
    "{% raw %}",
    "{% include 'x' %}",
    "{# c #}",
    "{{",
    "}}",
    "text ",
    "{%- if a -%}",
)
FACTS: dict[str, Any] = {
    "a": 3, "b": {"c": "text", "k": None}, "x": [1, 2, "é"], "numbers": {"rate": 0.2, "big": 2**63 - 1,
    "inf": 1e308}, "big": ["word " * 50] * 500,
}  # fmt: skip
FACTS["deep"] = json.loads('{"a":' * 400 + "1" + "}" * 400)


def _tree(random: Random, depth: int = 0) -> dict[str, Any]:
    kind = random.choice(("compare", "compare", "all", "any", "not")) if depth < 6 else "compare"
    if kind == "compare":
        scalars = [v for v in NASTY if not isinstance(v, (dict, list))]
        value = [random.choice(scalars) for _ in range(3)] if random.random() < 0.2 else random.choice(scalars)
        return {"kind": kind, "field": random.choice(_NAMES), "op": random.choice(_OPS), "value": value}
    if kind == "not":
        return {"kind": kind, "of": _tree(random, depth + 1)}
    return {"kind": kind, "of": [_tree(random, depth + 1) for _ in range(random.randrange(4))]}


def conditions(random: Random, held: list[Any]) -> Outcome:
    """Condition trees over facts: a verdict, twice the same, and the column form never narrower; or refused as a definition."""
    tree: Any = _tree(random)
    if random.random() < 0.4:
        tree = damaged(random, tree)
    if random.random() < 0.02:
        for _ in range(random.choice((12, 20, 300))):
            tree = {"kind": "not", "of": tree}
    facts = damaged(random, {"feature": "x", "user": "u", "properties": {"plan": "pro", "n": 3}}, times=2)
    held += [tree, facts]
    try:
        condition = OnEvent.model_validate({"topic": "events.usage", "where": tree}).where
    except ValidationError:
        return {"refused": 1}
    if condition is None:
        return {"accepted": 1}
    flat = flatten(facts) if isinstance(facts, dict) else {}
    verdict = holds(condition, flat)
    assert verdict is holds(condition, flat)
    fields(condition)
    assert not verdict or bool(Columns(1, {}).possible(condition)[0])
    return {"accepted": 1}


@cache
def _templates() -> list[str]:
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, str) and "{" in value:
            found.append(value)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(part)

    walk([d.get("command", {}) for d in all_definitions()])
    assert len(found) > 50
    return found


def _expression(random: Random) -> str:
    text = random.choice(_WORDS)
    for _ in range(random.choice((0, 1, 2, 4, 12))):
        text += (
            f"|{random.choice(_FILTERS)}" if random.random() < 0.4 else random.choice(_JOINS) + random.choice(_WORDS)
        )
    if random.random() < 0.02:
        sign = random.choice(("(", "[", "-", "not ", "{'a':"))
        text = sign * random.choice((5, 50, 3_000)) + text
    return "{{ " + text + " }}"


def templates(random: Random, held: list[Any]) -> Outcome:
    """Templates and facts: a JSON value of bounded size, or `RenderError`."""
    if random.random() < 0.5:
        source = "".join(
            random.choice((_expression(random), random.choice(_BLOCKS))) for _ in range(random.choice((1, 1, 2, 5)))
        )
    else:
        source = random.choice(_templates())
        if random.random() < 0.8:
            source = spoiled(random, source.encode()).decode("utf-8", "replace")
    held.append(source)
    try:
        rendered = Renderer().payload({"a": source, "b": [source]}, FACTS)
    except RenderError as error:
        assert error.reason
        return {"refused": 1}
    assert len(orjson.dumps(rendered)) <= 8 * MAX_OUTPUT_CHARS
    return {"accepted": 1}
