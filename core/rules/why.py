"""Why a condition held or did not: every predicate in it with the value it was asked of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from core.rules.conditions import Facts, fields, holds
from schemas.celtext import to_cel
from schemas.conditions import All, AnyOf, Compare, Condition, During, Not
from schemas.definitions import OnBand, OnStage, Product, Rule, Threshold
from schemas.tables import AdoptionRow, HealthRow
from schemas.why import Check


def checks(condition: Condition | None, facts: Facts) -> list[Check]:
    """What has to hold, one predicate each, with its value among these (flat) facts; all of them hold if the condition does."""
    if condition is None:
        return []
    if isinstance(condition, All):
        return [check for part in condition.of for check in checks(part, facts)]
    return [_check(condition, facts)]


def first_failed(found: Iterable[Check]) -> Check | None:
    """The first that did not hold, of the innermost that says so alone."""
    for check in found:
        if check.held is False:
            inner = [part for part in check.parts if part.held is False]
            return first_failed(inner) if len(check.parts) == 1 and inner else check
    return None


def share_held(found: Sequence[Check]) -> float:
    """How much of it held, 0 to 1: by this one tells what came nearest."""
    return sum(check.held is True for check in found) / len(found) if found else 1.0


def told(check: Check) -> str:
    """The predicate and its value, for a sentence."""
    return f"`{check.text}` does not hold: {_shown(check.value)}"


def stage_checks(trigger: OnStage, row: AdoptionRow, product: Product) -> list[Check]:
    """Of a feature's adoption: where it stands, and the borders of the stages that are asked for."""
    low, high = product.stage_borders
    found = [_limit("target_users", ">=", product.min_target_users, row.target_users)]
    for stage in trigger.stages:
        if stage in ("low", "growth"):
            found.append(
                _limit(
                    "adoption_rate", "<" if stage == "low" else "<=", low if stage == "low" else high, row.adoption_rate
                )
            )
        if stage in ("growth", "market"):
            found.append(
                _limit(
                    "adoption_rate",
                    ">=" if stage == "growth" else ">",
                    low if stage == "growth" else high,
                    row.adoption_rate,
                )
            )
    return [_one_of("stage", trigger.stages, row.stage), *found]


def viral_checks(row: AdoptionRow, product: Product) -> list[Check]:
    """Of a feature that spreads by itself."""
    return [
        Check(text="viral", value=row.viral, held=row.viral),
        _limit("organic_share", ">", product.viral_border, row.organic_share),
        _limit("users", ">=", product.viral_min_adopters, row.users),
    ]


def band_checks(trigger: OnBand, row: HealthRow, product: Product) -> list[Check]:
    """Of a product's health: its band, the borders of those that are asked for, and what the score is made of."""
    critical, declining, stable = product.band_borders
    above = {"declining": critical, "stable": declining, "optimal": stable}
    below = {"critical": critical, "declining": declining, "stable": stable}
    found = [_one_of("band", trigger.bands, row.band)]
    for band in trigger.bands:
        if band in above:
            found.append(_limit("score", ">" if band == "optimal" else ">=", above[band], row.score))
        if band in below:
            found.append(_limit("score", "<=" if band == "stable" else "<", below[band], row.score))
    parts: dict[str, Any] = {name: round(part.score, 2) for name, part in row.components.items()}
    return [*found, Check(text="components of the score", value=parts, held=None)]


def threshold_checks(threshold: Threshold, value: float | None, phase: str | None, since: int | None) -> list[Check]:
    """Of a figure against its limit. `phase`, `since`: where its state machine stands, if that is known."""
    found = [_limit(threshold.metric, threshold.op, threshold.limit, value)]
    if phase is not None:
        state: Any = {"phase": phase, "since": since, "for_s": threshold.for_s, "clear_limit": threshold.clear_limit}
        found.append(Check(text='phase == "firing"', value=state, held=phase in ("firing", "recovering")))
    return found


def rule_checks(rule: Rule, at: int, paused: bool, last: int | None, used: int, ceiling: int) -> list[Check]:
    """What keeps a rule from acting at an event time. `last`: of its last command that its cool-down counts from (or in the same
    bucket); `used`: its commands in that hour, of at most `ceiling`.
    """
    found = [
        Check(text="in force: at >= effective_from", value=rule.effective_from, held=rule.effective_from <= at),
        Check(text="not paused", value=paused, held=not paused),
    ]
    if rule.cooldown_s:
        until = None if last is None else last + rule.cooldown_s * 1000
        held = until is None or at >= until
        found.append(Check(text=f"no command within the cool-down of {rule.cooldown_s} s", value=last, held=held))
    return [*found, Check(text=f"commands this hour < {ceiling}", value=used, held=used < ceiling)]


def _check(condition: Condition, facts: Facts) -> Check:
    parts: list[Check] = []
    match condition:
        case AnyOf():
            parts = [_check(part, facts) for part in condition.of]
        case Not(of=(All() | AnyOf()) as inner):
            parts = [_check(part, facts) for part in inner.of]
        case All():
            parts = checks(condition, facts)
        case Compare() | During() | Not():
            pass
    return Check(
        text=to_cel(condition),
        value=None if parts else _value(condition, facts),
        held=holds(condition, facts),
        parts=parts,
    )


def _value(condition: Condition, facts: Facts) -> Any:
    names = sorted(fields(condition))
    found = {name: _plain(facts.get(name)) for name in names}
    return found[names[0]] if len(names) == 1 else found


def _plain(value: object) -> Any:
    """As JSON; a fact is nothing else, but for what is shown of long texts and lists."""
    if isinstance(value, str):
        return value if len(value) <= 256 else f"{value[:255]}…"
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value[:32]]
    return value if isinstance(value, (int, float, bool)) or value is None else str(value)[:256]


def _limit(name: str, op: str, limit: float, value: float | None) -> Check:
    compare = Compare(field=name, op=op, value=limit)
    return Check(text=to_cel(compare), value=value, held=holds(compare, {name: value}))


def _one_of(name: str, wanted: Sequence[str], value: str) -> Check:
    compare = Compare(field=name, op="in", value=[*wanted])
    return Check(text=to_cel(compare), value=value, held=value in wanted)


def _shown(value: Any) -> str:
    return (
        "there is no value"
        if value is None
        else f"the value is {value!r}"
        if isinstance(value, str)
        else f"the value is {value}"
    )
