"""Conditions as CEL: both ways, exactly; and what is refused, with where and why."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.rules.conditions import holds
from schemas.cel import parse
from schemas.celmeasure import CelError
from schemas.celtext import to_cel
from schemas.conditions import All, AnyOf, Compare, Condition, During, Not
from schemas.definitions import DEFINITION, OnEvent, Rule
from schemas.limits import MAX_CEL_CHARS

NAMES = st.sampled_from(["feature", "a", "in", "facts", "properties", "seat-count", "ü x", "null", 'q"\\', "_x9", "\n"])
FIELDS = st.lists(NAMES, min_size=1, max_size=3).map(".".join) | st.text(
    st.characters(codec="utf-8"), min_size=1, max_size=8
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = TEXTS | NUMBERS | st.booleans() | st.none()


def compares() -> st.SearchStrategy[Condition]:
    def made(op: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Condition]:
        return st.builds(lambda f, v: Compare.model_validate({"field": f, "op": op, "value": v}), FIELDS, values)

    return st.one_of(
        *(made(op, SCALARS) for op in ("==", "!=")),
        *(made(op, TEXTS | NUMBERS) for op in ("<", "<=", ">", ">=")),
        *(made(op, TEXTS) for op in ("starts_with", "ends_with")),
        made("contains", SCALARS),
        made("in", st.lists(SCALARS, max_size=4)),
        made("missing", st.none()),
    )


DURING = st.builds(
    During,
    weekdays=st.lists(st.sampled_from(["mon", "sat"]), min_size=1, max_size=2),
    start=st.just("09:00"),
    end=st.sampled_from(["17:00", "03:30"]),
    holidays=st.lists(st.dates(date(2020, 1, 1), date(2030, 1, 1)), max_size=2),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    zone_field=st.none() | st.just("properties.timezone"),
)


def trees(least: int) -> st.SearchStrategy[Condition]:
    """`least`: parts of an `all` or `any`."""

    def grown(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
        parts = st.lists(inner, min_size=least, max_size=3)
        return st.builds(All, of=parts) | st.builds(AnyOf, of=parts) | st.builds(Not, of=inner)

    return st.recursive(compares() | DURING, grown, max_leaves=8)


def in_one_form(tree: Condition) -> bool:
    """As `parse` gives trees: no `not` of a `not`, and presence said once."""
    match tree:
        case Not(of=Not()):
            return False
        case Not():
            return in_one_form(tree.of)
        case All() | AnyOf():
            return all(map(in_one_form, tree.of))
        case _:
            return True


@settings(max_examples=300, deadline=None)
@given(trees(2).filter(in_one_form))
def test_there_and_back(tree: Condition) -> None:
    assert parse(to_cel(tree)) == tree


VALUES = st.sampled_from([None, True, False, 0, 1, 2.5, "", "a", "ab", ["a", 1]])


@settings(max_examples=200, deadline=None)
@given(trees(0), st.dictionaries(FIELDS, VALUES, max_size=4), VALUES)
def test_any_tree_means_the_same_as_its_text(tree: Condition, facts: dict[str, object], often: object) -> None:
    facts = {"feature": often, "a": often, **facts, "at": 1_767_225_600_000}
    assert holds(parse(to_cel(tree)), facts) is holds(tree, facts)


@pytest.mark.parametrize(
    ("text", "holds_on"),
    [
        ('feature == "export" && properties.seats > 5', True),
        ('"export" == feature && 5 < properties.seats', True),
        ("beta", True),
        ("!beta", False),
        ("gone", False),
        ("!gone", True),
        ("has(properties.seats) && !has(gone)", True),
        ("gone != 3", True),
        ('feature in ["export", "import"]', True),
        ('"x" in tags && 3 in tags', True),
        ('tags.contains("y")', False),
        ('feature.startsWith("ex") && feature.endsWith("rt") && feature.contains("xpo")', True),
        ("beta == 1", False),
        ('properties.seats == "12"', False),
        ("properties.seats == 12.0 && properties.seats >= -1e3 && properties.seats < 0xff", True),
        ('properties["seats"] == 12 // twelve', True),
        ("gone == 1 || (beta && (true || false))", True),
        ('at > 5 && during({"weekdays": ["wed"], "zone": "Europe/Berlin"})', True),
        ("'it''s' == feature", None),
        (r'feature == "\u0065xport"', True),
    ],
)
def test_meaning(text: str, holds_on: bool | None) -> None:
    facts = {"feature": "export", "properties.seats": 12, "beta": True, "tags": ["x", 3], "at": 1_766_531_400_000}
    if holds_on is None:
        with pytest.raises(CelError):
            parse(text)
    else:
        assert holds(parse(text), facts) is holds_on


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("a == \n && b", 2, 2, "'&&' cannot stand here"),
        ("a ==", 1, 5, "ends too early"),
        ("", 1, 1, "ends too early"),
        ("a = 1", 1, 3, "equality is =="),
        ("a == b", 1, 6, "compared with values only"),
        ("a > true", 1, 1, "no order"),
        ("a + 1 > 2", 1, 1, "do not calculate"),
        ("a ? b : c", 1, 1, "no part of conditions"),
        ('"x"', 1, 1, "by itself"),
        ('a.matches("(a+)+$")', 1, 3, "no matches"),
        ("tags.all(t, t > 1)", 1, 6, "no all"),
        ("size(a) > 2", 1, 1, "expected a fact's name"),
        ("a &&\n  now()", 2, 3, "no function now"),
        ('a == "x', 1, 6, "does not end on its line"),
        ('a == "\\q"', 1, 7, "means nothing"),
        ('a == """x"""', 1, 6, "single quotation marks"),
        ('a == b"x"', 1, 7, "no letter"),
        ('a == "\\ud800"', 1, 6, "half a character"),
        ("a == 99999999999999999999999999", 1, 6, "beyond 64 bits"),
        ('during({"zone": "Mars/Base", "weekdays": ["mon"]})', 1, 1, "no time zone"),
        ('during({"start": "09:00"})', 1, 1, "both start and end"),
        ("x[0] == 1", 1, 3, "named by a text"),
        ("-a > 1", 1, 1, "expected a fact's name"),
        ("null == 1", 1, 9, "fact's name"),
    ],
)
def test_refused_with_place_and_reason(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(CelError) as refused:
        parse(text)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert reason in refused.value.reason


BOMBS = {
    "brackets": "(" * 3_000 + "a" + ")" * 3_000,
    "lists": "a in " + "[" * 3_000,
    "nots": "!" * 7_000 + "a",
    "backslashes": '"' + "\\" * 7_000,
    "unended": "a == '" + "\\\\" * 3_000,
    "indices": "a" + "[0]" * 2_000,
    "path": "a" + ".b" * 3_000,
    "minus": "-" * 7_000 + "1 == a",
    "sums": "a == 1" + " + 1" * 1_800,
    "long": "a == 1 && " * 2_000 + "b",
    "many": " && ".join(["a"] * 600),
    "deep": "!(a || " * 20 + "a" + ")" * 20,
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_are_refused(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        OnEvent.model_validate({"topic": "events.usage", "where": BOMBS[name]})
    assert refused.value.errors()[0]["loc"] == ("where",) or name == "many"


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), max_size=60)
    | st.lists(
        st.sampled_from('a . == != && || ! ( ) [ ] { } " \' \\ 1 -1 2.5 , : ? in has( "x" true null //'.split())
    ).map(" ".join)
)
def test_nothing_but_a_tree_or_a_refusal(text: str) -> None:
    try:
        tree = parse(text[:MAX_CEL_CHARS])
    except CelError as error:
        assert error.line >= 1 and error.column >= 1 and "\n" not in error.reason
    except ValidationError:
        pass  # a value that no comparison may ask for
    else:
        assert parse(to_cel(tree)) == tree


def test_what_is_written_out_is_within_the_bound_of_what_is_read() -> None:
    """Nobody could save again what the browser shows of it otherwise."""
    grown = "&&".join(['a=="' + "x" * 34 + '"'] * 190)
    assert len(grown) <= MAX_CEL_CHARS
    with pytest.raises(CelError, match="when it is written out"):
        parse(grown)
    names = " && ".join(['title == "' + "é" * 60 + '"'] * 100)
    assert to_cel(parse(names)) == names, "letters of any language stay letters"


def test_rules_may_write_either() -> None:
    body: dict[str, Any] = {
        "kind": "rule",
        "name": "r",
        "id": "r",
        "trigger": {"kind": "event", "topic": "events.usage", "where": 'feature == "export"'},
        "command": {"type": "product.note.write", "title": "t", "text": "t"},
    }
    tree = {"kind": "compare", "field": "seats", "op": ">", "value": 5}
    written = DEFINITION.validate_python({**body, "when": "seats > 5"})
    assert isinstance(written, Rule) and isinstance(written.trigger, OnEvent)
    assert written == DEFINITION.validate_python({**body, "condition": tree})
    assert DEFINITION.validate_json(written.model_dump_json()) == written
    assert written.trigger.where == Compare(field="feature", op="==", value="export")
    with pytest.raises(ValidationError) as refused:
        DEFINITION.validate_python({**body, "when": "seats >\n"})
    (error,) = refused.value.errors()
    assert error["loc"][-1] == "when" and error["ctx"]["line"] == 1 and "ends too early" in error["msg"]
    with pytest.raises(ValidationError, match="when"):
        DEFINITION.validate_python({**body, "when": "a", "condition": tree})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" && ".join(["!false"] * 600), "600 conditions side by side; at most 200"),
        (" || ".join(["a"] * 201), "201 conditions side by side; at most 200"),
        (f"{'x' * 300} == 1", "field: String should have at most 256 characters"),
    ],
)
def test_what_no_condition_holds_is_refused_as_text(text: str, why: str) -> None:
    with pytest.raises(CelError, match=why):
        parse(text)
