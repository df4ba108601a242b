"""Bounds of what people write: templates, conditions, YAML, sources; each found by `make fuzz`, each once a crash."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from core.rules.render import Renderer, RenderError
from core.sources import Mapped, Unmapped, map_row
from core.yamltext import BadYaml, load_yaml
from schemas.definitions import Product, Rule, Source

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefghi")
)
DEEP: dict[str, Any] = {}
_inner = DEEP
for _ in range(400):
    _inner["a"] = _inner = {}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "too_complex"),
        ("{{ " + "-" * 9_000 + "1 }}", "too_complex"),
        ("{{ " + "not " * 140 + "1 }}", "too_complex"),
        ("{{ a" + ".b" * 6_000 + " }}", "too_complex"),
        ("{{ " + "9" * 5_000 + " }}", "too_complex"),
        ("{% if a %}" * 40 + "{% endif %}" * 40, "too_complex"),
        ("{{ '\\ud800' }}", "render"),
        ("text {{ '\\ud800' }}", "render"),
        ("{{ 1e400 }}", "render"),
        ("{{ 99999999999999999999 }}", "render"),
        ("{{ a | round(999999999, 'ceil') }}", "render"),
        ("{{ lists | sum(start=[]) }}", "render"),
        ("{{ deep }}", "too_deep"),
        ("{{ big }}", "too_large"),
    ],
)  # fmt: skip
def test_a_template_beyond_a_bound_is_an_error_and_no_more(source: str, reason: str) -> None:
    facts = {"a": 3, "lists": [[1]] * 10, "deep": DEEP, "big": ["x" * 100] * 1_000}
    with pytest.raises(RenderError) as caught:
        Renderer().payload({"x": source}, facts)
    assert caught.value.reason == reason, caught.value


def test_many_small_values_count_as_much_as_one_large() -> None:
    with pytest.raises(RenderError, match="more than"):
        Renderer().payload(["{{ x }}"] * 80, {"x": ["y" * 10] * 100})


def rule(condition: Any) -> Rule:
    command = {"type": "product.a.b", "title": "t", "text": "t"}
    return Rule.model_validate(
        {"name": "r", "id": "r", "trigger": {"kind": "viral"}, "condition": condition, "command": command}
    )


def test_conditions_are_bounded() -> None:
    leaf: Any = {"kind": "compare", "field": "x", "op": "==", "value": 1}
    nested = leaf
    for _ in range(15):
        nested = {"kind": "not", "of": nested}
    rule(nested)
    wide = {"kind": "all", "of": [{"kind": "any", "of": [leaf] * 120}] * 5}
    for bad in (
        {"kind": "not", "of": nested}, wide, {**leaf, "value": ["x"] * 1_001}, {**leaf, "value": "x" * 4_097},
        {**leaf, "value": 1 << 64}, {**leaf, "value": {"a": 1}}, {**leaf, "field": "x" * 257},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            rule(bad)


@pytest.mark.parametrize(
    "changed",
    [
        {"disorder_ms": 10**30}, {"disorder_ms": -1}, {"grace_ms": 10**12}, {"min_target_users": 0}, {"engagement_full": 0},
        {"apdex_t_ms": float("inf")}, {"stage_borders": (0.6, 0.2)}, {"band_borders": (1, 2, 1000)}, {"weights": {"trend": -1}},
    ],
)  # fmt: skip
def test_a_products_settings_cannot_break_those_who_compute_with_them(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Product.model_validate({"name": "p", **changed})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, "aliases"),
        ("[" * 100 + "]" * 100, "deeper than 64"),
        ("&a [*a]", "an alias of what it stands in"),
        ("x: 2001-99-99", "ValueError"),
        ("x: " + "9" * 5_000, "ValueError"),
        ("{", "expected"),
        ("x" * ((4 << 20) + 1), "at most"),
    ],
    ids=["laughs", "deep", "itself", "date", "digits", "open", "long"],
)  # fmt: skip
def test_yaml_is_bounded(text: str, says: str) -> None:
    with pytest.raises(BadYaml, match=says) as caught:
        load_yaml(text)
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)


def test_yaml_with_a_few_aliases_is_read() -> None:
    assert load_yaml("a: &a {x: 1}\nb: [*a, *a]") == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}]}
    assert load_yaml("") is None


def test_a_source_of_one_tenant_speaks_for_no_other() -> None:
    fields = {"user": "u", "occurred_at": "t", "tenant": "who"}
    source = Source(
        tenant="acme", name="s", topic="t", target="events.usage", fields=fields, constants={"product": "p"}, time_unit="ms",
        id_from="position",
    )  # fmt: skip
    own = map_row(source, {"u": "ann", "t": 5}, "t/0/1")
    assert isinstance(own, Mapped) and own.event["tenant"] == "acme" and own.key == b"acme|ann"
    foreign = map_row(source, {"u": "ann", "t": 5, "who": "other"}, "t/0/2")
    assert isinstance(foreign, Unmapped) and foreign.reason == "foreign_tenant"
    anybodys = map_row(source.model_copy(update={"tenant": "all"}), {"u": "ann", "t": 5, "who": "other"}, "t/0/2")
    assert isinstance(anybodys, Mapped) and anybodys.key == b"other|ann"
