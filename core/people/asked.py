"""Who asks for profiles: while nobody of a tenant does, none are kept and no rows travel for their sake."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from core.definitions import Catalogue
from core.rules.conditions import fields
from schemas.definitions import ALL_TENANTS, Campaign, OnSegment, Rule, Segment
from schemas.envelope import SubjectKind, subject

ROOTS: Final = ("contact", "account", "campaign")
_IN_TEMPLATE: Final = re.compile(r"\{[{%][^}]*?\b(?:(?:contact|account|campaign)\s*[.\[]|segments\b)")


def person_fact(path: str) -> bool:
    """Whether a fact of this path comes of a profile."""
    root, dot, _ = path.partition(".")
    return path == "segments" or (bool(dot) and root in ROOTS)


def asks(rule: Rule) -> bool:
    """Whether the rule's condition or templates ask for a profile."""
    if rule.condition is not None and any(map(person_fact, fields(rule.condition))):
        return True
    return any(_IN_TEMPLATE.search(text) for text in _texts(rule.command.model_dump(mode="json")))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


class Asked:
    """Looks through the catalogue once for each of its generations."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._generation = -1
        self._tenants: set[str] = set()

    def any(self) -> bool:
        """Whether anybody asks."""
        self._look()
        return bool(self._tenants)

    def by(self, tenant: str) -> bool:
        """Whether a definition that applies to the tenant asks."""
        self._look()
        return tenant in self._tenants or ALL_TENANTS in self._tenants

    def _look(self) -> None:
        if self._generation == self._catalogue.generation:
            return
        self._generation = self._catalogue.generation
        found = {r.tenant for r in self._catalogue.of(Rule) if isinstance(r.trigger, OnSegment) or asks(r)}
        found |= {s.tenant for s in self._catalogue.of(Segment) if s.where is not None}
        self._tenants = found | {c.tenant for c in self._catalogue.of(Campaign)}


def subjects_of(event: Any) -> list[str]:
    """Subjects whose profiles an event of the people's topics says something about.

    A user and a contact of one name are one person: an event that names one of both is told to both. An alias is told to both sides.
    """
    user, contact = event.user or event.contact, event.contact or event.user
    former = getattr(event, "former", None) if event.type == "contact.aliased" else None
    named: list[tuple[SubjectKind, str | None]] = [("user", user), ("contact", contact), ("account", event.account)]
    named += [("user", former), ("contact", former)]
    return list(dict.fromkeys(subject(kind, name) for kind, name in named if name))
