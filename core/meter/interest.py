"""Interest: who waits for rows with which values. Looked up by values, never gone through rule by rule.

A rule is found by the most selective value that it requires. Where many wait for the same one (ten thousand for a type), they are
told apart by a second value: the tenant, another column, a property. What requires nothing else is asked, by columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from core.rules.columns import required
from schemas.definitions import ALL_TENANTS, OnEvent, Rule, Workflow

FIELDS: Final[tuple[str, ...]] = ("user", "account", "feature", "service", "attribution", "type", "product", "tenant")
"""Columns that rules are found by, the most selective first."""
FEW: Final = 8
"""So many rules are asked one by one: cheaper than reading a row's properties."""
_UNKNOWN: Final = "subject"
"""A fact that only the trigger gives."""


class Waiting(NamedTuple):
    """One rule, or workflow, that waits for single events."""

    rule: Rule | Workflow
    trigger: OnEvent
    since: int = 0
    """Rows from before this event time are not asked about."""

    @property
    def needs(self) -> dict[str, list[Any]]:
        """Facts that must have one of these values, its tenant among them."""
        needs = required(self.trigger.where)
        if self.rule.tenant != ALL_TENANTS:
            needs = {**needs, "tenant": [self.rule.tenant]}
        return needs


@dataclass(slots=True)
class Among:
    """Who waits for rows with one value in one column."""

    few: list[Waiting] = field(default_factory=list)
    """To be asked."""
    deeper: dict[str, dict[Any, list[Waiting]]] = field(default_factory=dict)
    """Fact → value → rules that require it besides."""

    def found(self, facts: Mapping[str, object]) -> Iterator[Waiting]:
        """Of `deeper`, those whose value this row has."""
        for name, by_value in self.deeper.items():
            value = facts.get(name)
            if isinstance(value, str):
                yield from by_value.get(value, ())


class Interest:
    """The index of one topic's rules."""

    def __init__(self, waits: Iterable[Waiting]) -> None:
        self.always: list[Waiting] = []
        """Rules that require no value at all."""
        self.by_value: dict[str, dict[Any, Among]] = {}
        """Column → value → who waits for it."""
        found: defaultdict[tuple[str, Any], list[Waiting]] = defaultdict(list)
        for waiting in waits:
            needs = waiting.needs
            column = next((f for f in FIELDS if f in needs), None)
            if column is None:
                self.always.append(waiting)
                continue
            for value in dict.fromkeys(needs[column]):
                found[column, value].append(waiting)
        for (column, value), rules in found.items():
            self.by_value.setdefault(column, {})[value] = _among(rules, column)


def _among(rules: list[Waiting], column: str) -> Among:
    among = Among()
    if len(rules) <= FEW:
        among.few = rules
        return among
    for waiting in rules:
        needs = waiting.needs
        others = sorted(needs.keys() - {column, _UNKNOWN, *FIELDS})
        second = next((f for f in (*FIELDS[:-2], *others, *FIELDS[-2:]) if f in needs and f != column), None)
        if second is None:
            among.few.append(waiting)
            continue
        for value in dict.fromkeys(needs[second]):
            among.deeper.setdefault(second, {}).setdefault(value, []).append(waiting)
    return among
