"""Which commands the detections imply (`docs/semantics.md` §5). Rules are plain JSON objects, as they stand on their topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.oracle.judged import Found, identity

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Ordered:
    """A command that must be there."""

    id: str
    rule: str
    type: str
    found: Found


def ordered(found: Iterable[Found], rules: Iterable[Mapping[str, Any]]) -> tuple[list[Ordered], Counter[str]]:
    """The commands, and the matches that were suppressed by reason. Nothing is paused and everything may act."""
    inorder = sorted(rules, key=lambda r: (r["id"], r["name"]))
    last: dict[tuple[str, ...], int] = {}
    hours: Counter[tuple[str, str, str, int]] = Counter()
    out: list[Ordered] = []
    suppressed: Counter[str] = Counter()
    for f in found:
        for rule in inorder:
            if rule.get("tenant", "all") not in ("all", f.tenant) or not _triggers(rule["trigger"], f):
                continue
            if rule.get("effective_from", 0) > f.at or not holds(rule.get("condition"), f.facts):
                continue
            subject, hour = (
                (rule["name"], f.tenant, f.product, f.subject),
                (f.tenant, f.product, rule["name"], f.at // HOUR_MS),
            )
            cooldown_ms = rule.get("cooldown_s", 0) * 1000
            if subject in last and f.at < last[subject] + cooldown_ms:
                suppressed["cooldown"] += 1
            elif hours[hour] >= rule.get("ceiling_per_hour", 100):
                suppressed["ceiling"] += 1
            else:
                last[subject] = f.at
                hours[hour] += 1
                ident = identity("command", f.tenant, rule["id"], f.subject, f.id, "1")
                out.append(Ordered(ident, rule["id"], rule["command"]["type"], f))
    return out, suppressed


def _triggers(trigger: Mapping[str, Any], f: Found) -> bool:
    match trigger["kind"]:
        case "stage":
            return f.kind == "stage_entered" and f.facts["stage"] in trigger["stages"]
        case "viral":
            return f.kind == "viral_entered"
        case "band":
            return f.kind == "band_entered" and f.facts["band"] in trigger["bands"]
        case "prediction":
            edge = f"prediction_{trigger.get('edge', 'crossed')}"
            return f.kind == edge and f.facts["prediction"] == trigger["prediction"]
        case _:
            return False


def holds(condition: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> bool:
    """Whether a condition tree holds on a detection's fields."""
    if condition is None:
        return True
    match condition["kind"]:
        case "all":
            return all(holds(c, facts) for c in condition["of"])
        case "any":
            return any(holds(c, facts) for c in condition["of"])
        case "not":
            return not holds(condition["of"], facts)
        case _:
            return _compares(condition["op"], _fact(facts, condition["field"]), condition.get("value"))


def _fact(facts: Mapping[str, Any], path: str) -> Any:
    found: Any = facts
    for part in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _compares(op: str, fact: Any, value: Any) -> bool:
    if fact is None:
        return op in ("missing", "!=")
    alike = isinstance(fact, str) == isinstance(value, str)
    match op:
        case "==":
            return bool(fact == value)
        case "!=":
            return bool(fact != value)
        case "in":
            return fact in value
        case "contains":
            return value in fact
        case "starts_with":
            return str(fact).startswith(value)
        case "<":
            return alike and bool(fact < value)
        case "<=":
            return alike and bool(fact <= value)
        case ">":
            return alike and bool(fact > value)
        case ">=":
            return alike and bool(fact >= value)
        case "missing":
            return False
        case _:
            raise ValueError(f"the oracle does not know the operator {op!r}")
