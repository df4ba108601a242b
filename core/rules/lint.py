"""What is wrong with a rule before it runs: facts that do not exist, comparisons that can never hold, names in templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, assert_never

from pydantic import JsonValue

from core.rules.known import LIST, NUMBER, TEXT, TRUTH, Fact, Known, event_facts, person_facts, trigger_facts
from core.rules.render import RenderError, asked, foreign
from schemas.conditions import All, AnyOf, Compare, Condition, During, Not
from schemas.definitions import OnAbsence, OnCount, OnEvent, OnInactivity, OnSequence, Rule, Segment
from schemas.outcomes import Conversion

Path = tuple[str | int, ...]
_GIVEN = ("tenant", "product", "subject", "reason", "numbers", "thresholds", "links", "segment", "owner")
"""What every template sees besides the trigger's facts."""


class Finding(NamedTuple):
    """Something at a place of a definition. An `error` is refused, a `warning` is told."""

    path: Path
    reason: str
    level: Literal["error", "warning"] = "error"


def rule_findings(rule: Rule) -> Iterator[Finding]:
    """Everything about one rule that needs no other definition."""
    trigger = rule.trigger
    match trigger:
        case OnEvent() | OnCount() | OnInactivity():
            yield from _condition(trigger.where, event_facts(trigger.topic), ("trigger", "where"))
        case OnSequence():
            for i, step in enumerate(trigger.steps):
                yield from _condition(step.where, event_facts(step.topic), ("trigger", "steps", i, "where"))
        case OnAbsence():
            for name, step in (("first", trigger.first), ("then", trigger.then)):
                yield from _condition(step.where, event_facts(step.topic), ("trigger", name, "where"))
        case _:
            pass
    known = trigger_facts(trigger)
    yield from _condition(rule.condition, known, ("condition",))
    yield from _outcome(rule)
    yield from _templates(rule, known)


def _outcome(rule: Rule) -> Iterator[Finding]:
    metric = rule.outcome.metric if rule.outcome is not None else None
    if not isinstance(metric, Conversion):
        if rule.holdout and metric is None:
            yield Finding(("holdout",), "nothing is measured: give the rule an `outcome`", "warning")
        return
    facts = event_facts(metric.topic)
    yield from _condition(metric.where, facts, ("outcome", "metric", "where"))
    if metric.value is not None and (fact := facts.fact(metric.value)) is not None and fact.types - {NUMBER}:
        yield Finding(("outcome", "metric", "value"), f"{metric.value} is a {_types(fact)}, and a number is asked for")
    if not rule.holdout:
        yield Finding(("outcome",), "nobody is held out to compare with: give the rule a `holdout`", "warning")


def segment_findings(segment: Segment) -> Iterator[Finding]:
    """Everything about one segment's condition."""
    yield from _condition(segment.where, person_facts(), ("where",))


def _condition(condition: Condition | None, known: Known, path: Path) -> Iterator[Finding]:
    match condition:
        case None:
            return
        case All() | AnyOf():
            for i, part in enumerate(condition.of):
                yield from _condition(part, known, (*path, "of", i))
        case Not():
            yield from _condition(condition.of, known, (*path, "of"))
        case During():
            yield from _during(condition, known, path)
        case Compare():
            fact = known.fact(condition.field)
            if fact is None:
                yield _unknown(condition.field, known, (*path, "field"))
            elif (why := _never(condition, fact)) is not None:
                yield Finding((*path, "value"), f"{condition.field} {condition.op} {_shown(condition.value)}: {why}")
        case _:
            assert_never(condition)


def _during(span: During, known: Known, path: Path) -> Iterator[Finding]:
    for name, field, wanted in (("field", span.field, NUMBER), ("zone_field", span.zone_field, TEXT)):
        if field is None:
            continue
        fact = known.fact(field)
        if fact is None:
            yield _unknown(field, known, (*path, name))
        elif fact.types and wanted not in fact.types:
            yield Finding((*path, name), f"{field} is a {_types(fact)}, and a {wanted} is asked for")


def _never(condition: Compare, fact: Fact) -> str | None:
    """Why the comparison cannot hold as it is meant; None where it can."""
    op, value = condition.op, condition.value
    if op == "missing":
        return None
    if op == "in":
        if not isinstance(value, list):
            return "`in` takes a list"
        return next((why for v in value if (why := _equal(v, fact)) is not None), None)
    if isinstance(value, list):
        return f"`{op}` takes one value; for several write `in`"
    if op in ("==", "!="):
        return _equal(value, fact)
    if op in ("<", "<=", ">", ">="):
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return "only numbers and texts have an order"
        return _typed(value, fact)
    if op == "contains" and (not fact.types or LIST in fact.types):
        return None
    if not isinstance(value, str):
        return f"`{op}` takes a text"
    return _typed(value, fact)


def _equal(value: JsonValue, fact: Fact) -> str | None:
    if value is None:
        return "a missing fact is asked for with has(): comparing with null never does"
    if (why := _typed(value, fact)) is not None:
        return why
    if fact.values and fact.types == {TEXT} and value not in fact.values:
        return f"it is one of {', '.join(map(str, fact.values))}"
    return None


def _typed(value: JsonValue, fact: Fact) -> str | None:
    kind = TRUTH if isinstance(value, bool) else TEXT if isinstance(value, str) else NUMBER
    return None if not fact.types or kind in fact.types else f"it is a {_types(fact)}, never a {kind}"


def _types(fact: Fact) -> str:
    return " or ".join(sorted(fact.types))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _unknown(name: str, known: Known, path: Path) -> Finding:
    near = get_close_matches(name, known.facts, n=1, cutoff=0.75)
    if near:
        return Finding(path, f"no fact {name!r} in {known.of}; did you mean {near[0]}?")
    if known.open:
        return Finding(
            path, f"{name!r} is no field of the schema of {known.of}: only senders' own fields have it", "warning"
        )
    return Finding(path, f"no fact {name[:80]!r} in {known.of}; there are {', '.join(sorted(known.facts))}")


def _templates(rule: Rule, known: Known) -> Iterator[Finding]:
    given = {*known.facts, *_GIVEN, *(("contact", "account", "campaign", "segments") if known.people else ())}
    texts = list(strings(rule.command.model_dump(mode="json"), ("command",)))
    if rule.undo is not None:
        texts += strings(rule.undo.model_dump(mode="json"), ("undo",))
    for path, text in texts:
        try:
            names = asked(text)
        except RenderError as error:
            yield Finding(path, str(error))
            continue
        if (why := foreign(names)) is not None:
            yield Finding(path, why)
            continue
        for name in sorted(names - given - ({"command"} if path[0] == "undo" else set())):
            yield _unknown(name, Known({n: Fact() for n in given}, known.open, known.of), path)


def strings(value: JsonValue, path: Path) -> Iterable[tuple[Path, str]]:
    """Every string within, with its place."""
    match value:
        case str():
            yield path, value
        case list():
            for i, item in enumerate(value):
                yield from strings(item, (*path, i))
        case dict():
            for k, item in value.items():
                yield from strings(item, (*path, k))
