"""Templates: what they can, and what they are kept from."""

from __future__ import annotations

import time

import pytest
from pydantic import JsonValue

from core.rules.render import MAX_OUTPUT_CHARS, Renderer, RenderError

FACTS: dict[str, object] = {
    "feature": "export",
    "users": 12,
    "rate": 0.25,
    "none": None,
    "flag": True,
    "components": {"reliability": 90.5, "items": "kept"},
    "list": [3, 1, 2],
    "big": "x" * 60_000,
}


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("plain", "plain"),
        ("{{ users }}", 12),
        (" {{ rate }} ", 0.25),
        ("{{ none }}", None),
        ("{{ flag }}", True),
        ("{{ components }}", {"reliability": 90.5, "items": "kept"}),
        ("{{ components.items }}", "kept"),
        ("{{ list[0] }}", 3),
        ("{{ list | sort | first }}", 1),
        ("{{ 100 * rate }}", 25.0),
        ("{{ users - 2 }} left", "10 left"),
        ("{{ 'many' if users > 10 else 'few' }}", "many"),
        ("{% if flag %}yes{% else %}no{% endif %}", "yes"),
        ("{{ components.trend | default(none) }}", None),
        ("{{ feature | upper }}!", "EXPORT!"),
        ("{{ rate | round(1) }}", 0.2),
        ("{{ feature }}{{ users }}", "export12"),
    ],
)
def test_renders(source: str, rendered: JsonValue) -> None:
    result = Renderer().payload(source, FACTS)
    assert result == rendered and type(result) is type(rendered)


def test_payload_keeps_its_shape() -> None:
    template: JsonValue = {"a": ["{{ users }}", {"b": "{{ feature }}s"}], "c": 5, "d": None}
    assert Renderer().payload(template, FACTS) == {"a": [12, {"b": "exports"}], "c": 5, "d": None}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ unknown }}", "render"),
        ("so {{ unknown }}", "render"),
        ("{{ components.unknown }}", "render"),
        ("{{ feature.upper }}", "render"),
        ("{{ feature.__class__ }}", "refused"),
        ("{{ feature['__class__'] }}", "refused"),
        ("{{ ''.__class__.__mro__ }}", "refused"),
        ("{{ users / 0 }}", "render"),
        ("{{ feature() }}", "refused"),
        ("{{ range(9) }}", "refused"),
        ("{% for x in list %}{{ x }}{% endfor %}", "refused"),
        ("{% set x = 1 %}", "refused"),
        ("{% macro m() %}{% endmacro %}", "refused"),
        ("{% include 'x' %}", "refused"),
        ("{{ 2 ** 9999999 }}", "refused"),
        ("{{ feature * 1000000000 }}", "refused"),
        ("{{ '%999999999d' % users }}", "refused"),
        ("{{ list * 100000000 }}", "refused"),
        ("{{ feature ~ feature }}", "refused"),
        ("{{ feature | format }}", "syntax"),
        ("{{ feature | map('x') }}", "syntax"),
        ("{{ feature", "syntax"),
        ("{{ big }}{{ big }}", "too_large"),
        ("{{ 1 }}" * 4000, "too_large"),
    ],
)
def test_refuses(source: str, reason: str) -> None:
    began = time.perf_counter()
    with pytest.raises(RenderError) as error:
        Renderer().payload({"deep": [source]}, FACTS, "payload")
    assert error.value.reason == reason
    assert time.perf_counter() - began < 2


def test_the_whole_payload_is_bounded() -> None:
    with pytest.raises(RenderError) as error:
        Renderer().payload(["{{ big }}", "{{ big }}"], FACTS)
    assert error.value.reason == "too_large" and str(MAX_OUTPUT_CHARS) in str(error.value)
