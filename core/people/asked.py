"""Who asks for profiles: while nobody of a tenant does, none are kept and no rows travel for their sake."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from jinja2 import Environment, TemplateError, nodes

from core.definitions import Catalogue
from core.rules.conditions import fields
from core.rules.shape import TooComplex, parsed
from core.same import once
from schemas.definitions import ALL_TENANTS, Campaign, OnSegment, Rule, Segment, Workflow
from schemas.envelope import SubjectKind, subject

ROOTS: Final = ("contact", "account", "campaign")
_PARSER = Environment(autoescape=True)
_PATHS: Final = ("field", "of", "items", "zone_field")
"""Where definitions name facts."""
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


@once(4_096)
def asked_by(workflow: Workflow) -> frozenset[str]:
    """Facts of profiles that the workflow's condition and nodes ask for: dotted paths; a root alone is all below it."""
    return frozenset(_person_paths(workflow.model_dump(include={"condition", "nodes"})))


def picked(facts: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Of a profile's facts those at the paths, nested as they are there; what is missing is left out."""
    found: dict[str, Any] = {}
    for path in sorted(paths):
        source: Any = facts
        target, parts = found, path.split(".")
        for i, part in enumerate(parts):
            if not isinstance(source, Mapping) or part not in source:
                break
            source = source[part]
            if i == len(parts) - 1 or not isinstance(source, Mapping):
                target[part] = source
                break
            below = target.setdefault(part, {})
            if below is source:
                break  # all of it is there
            target = below
    return found


def _person_paths(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, str):
        if name in _PATHS and person_fact(value):
            yield value
        elif "{" in value:
            yield from _in_template(value)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _person_paths(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from _person_paths(part)


@lru_cache(maxsize=8192)
def _in_template(text: str) -> frozenset[str]:
    try:
        return frozenset(_chains(parsed(_PARSER, text)))
    except (TemplateError, TooComplex):
        return frozenset()  # such a definition is refused


def _chains(node: nodes.Node) -> Iterator[str]:
    parts: list[str] = []
    at: nodes.Node = node
    while isinstance(at, (nodes.Getattr, nodes.Getitem)):
        if isinstance(at, nodes.Getattr):
            key: Any = at.attr
        else:
            key = at.arg.value if isinstance(at.arg, nodes.Const) else None
            yield from _chains(at.arg)
        parts = [key, *parts] if isinstance(key, str) else []  # which one, only the template knows: all of them
        at = at.node
    if at is node and not isinstance(node, nodes.Name):
        for child in node.iter_child_nodes():
            yield from _chains(child)
    elif not isinstance(at, nodes.Name):
        yield from _chains(at)
    elif at.name == "segments":
        yield at.name
    elif at is not node and at.name in ROOTS:
        yield ".".join([at.name, *parts])


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
        self._workflows: dict[tuple[str, str], tuple[Workflow, bool]] = {}
        """By name: the definition, and whether it asks."""

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
        found |= {w.tenant for w in (*self._catalogue.of(Workflow), *self._catalogue.retired()) if self._asks(w)}
        found |= {s.tenant for s in self._catalogue.of(Segment) if s.where is not None}
        self._tenants = found | {c.tenant for c in self._catalogue.of(Campaign)}

    def _asks(self, workflow: Workflow) -> bool:
        """Each definition is looked through once."""
        known = self._workflows.get((workflow.tenant, workflow.name))
        if known is None or known[0] is not workflow:
            known = self._workflows[workflow.tenant, workflow.name] = (
                workflow,
                workflow.asked_before or bool(asked_by(workflow)),
            )
        return known[1]


def subjects_of(event: Any) -> list[str]:
    """Subjects whose profiles an event of the people's topics says something about.

    A user and a contact of one name are one person: an event that names one of both is told to both. An alias is told to both sides.
    """
    user, contact = event.user or event.contact, event.contact or event.user
    former = getattr(event, "former", None) if event.type == "contact.aliased" else None
    named: list[tuple[SubjectKind, str | None]] = [("user", user), ("contact", contact), ("account", event.account)]
    named += [("user", former), ("contact", former)]
    return list(dict.fromkeys(subject(kind, name) for kind, name in named if name))
