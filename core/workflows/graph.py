"""A definition made ready: nodes by id, patterns by name, the facts it looks at; and the library of those that runs need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import NamedTuple

from jinja2 import Environment, TemplateError, meta
from pydantic import JsonValue

from core.people.asked import asked_by
from core.rules.conditions import fields, flatten, holds
from core.rules.render import Renderer
from core.rules.shape import TooComplex, parsed
from core.workflows.ways import Ways
from schemas.definitions import ALL_TENANTS, CommandTemplate, Condition, Workflow
from schemas.workflows import (
    Act,
    AnyNode,
    Approve,
    Await,
    Branch,
    Call,
    DateField,
    Decide,
    Each,
    EventPattern,
    LocalTime,
    Loop,
    OpenHours,
    Wait,
)

_PARSER = Environment(autoescape=True)


class Graph:
    """One version of a workflow."""

    @cached_property
    def ways(self) -> Ways:
        """How its nodes lie to each other."""
        return Ways(self.workflow)

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = self._equal = workflow
        self.nodes: dict[str, AnyNode] = {n.id: n for n in workflow.nodes}
        self.calls: list[str] = sorted({n.workflow for n in workflow.nodes if isinstance(n, Call)})
        self.wanted: set[str] = set(_wanted(workflow))
        """First words of the facts that anything in it looks at."""
        self.persons = asked_by(workflow)
        """Facts of the subject's profile that it looks at."""
        self._events: dict[str, list[tuple[str, EventPattern]]] = {}
        for name, pattern in workflow.events.items():
            self._events.setdefault(pattern.topic, []).append((name, pattern))
        self.look_back_ms = 1000 * max([n.look_back for n in workflow.nodes if isinstance(n, Await)], default=0)
        """The longest look back of its waits."""

    def of(self, workflow: Workflow) -> bool:
        """Whether it is made of this definition, or of an equal one."""
        if workflow is not self._equal:
            if workflow != self.workflow:
                return False
            self._equal = workflow
        return True

    def matched(self, topic: str, flat: Mapping[str, object], facts: Mapping[str, object]) -> list[str]:
        """Names of the events that this row is, in the definition's order. `facts`: the run's."""
        return [name for name, pattern in self._events.get(topic, ()) if _is(pattern, flat, facts)]


def _is(pattern: EventPattern, flat: Mapping[str, object], facts: Mapping[str, object]) -> bool:
    if pattern.where is not None and not holds(pattern.where, flat):
        return False
    if not pattern.same:
        return True
    own = flatten(facts)
    return all(flat.get(f) is not None and flat.get(f) == own.get(f) for f in pattern.same)


class Pinned(NamedTuple):
    """What a run is pinned to."""

    versions: dict[str, int]
    """Of its own workflow under "", of those that it may call under their names."""
    shared: list[str]
    """Those of the names whose definition is everybody's: a tenant's own one of that name is another workflow."""


class Library:
    """Graphs by tenant, name and version; whoever keeps runs keeps the versions that they are pinned to in here."""

    def __init__(self) -> None:
        self.renderer = Renderer()
        self._graphs: dict[tuple[str, str, int], Graph] = {}
        self.retired: frozenset[tuple[str, str]] = frozenset()
        """(owner, name) of workflows that no new run calls."""

    def put(self, workflow: Workflow) -> Graph:
        """Have this version at hand."""
        place = (workflow.tenant, workflow.name, workflow.version)
        found = self._graphs.get(place)
        if found is None or not found.of(workflow):
            found = self._graphs[place] = Graph(workflow)
        return found

    def drop(self, tenant: str, name: str, version: int) -> None:
        """No run needs it any more."""
        self._graphs.pop((tenant, name, version), None)

    def pins(self, graph: Graph, tenant: str) -> Pinned:
        """What a run of this graph is pinned to: its own version, and of those it may call, however deep, the newest."""
        pins, ahead = {"": graph}, list(graph.calls)
        while ahead:
            name = ahead.pop()
            found = self._newest(tenant, name)
            if name not in pins and found is not None:
                pins[name] = found
                ahead += found.calls
        return Pinned(
            {name: pins[name].workflow.version for name in sorted(pins)},
            [name for name in sorted(pins) if pins[name].workflow.tenant == ALL_TENANTS],
        )

    def _newest(self, tenant: str, name: str) -> Graph | None:
        for owner in (tenant, ALL_TENANTS):
            mine = [g for (t, n, _), g in self._graphs.items() if (t, n) == (owner, name)]
            if mine and (owner, name) not in self.retired:
                return max(mine, key=lambda g: g.workflow.version)
        return None

    def get(self, tenant: str, name: str, version: int, shared: bool = False) -> Graph | None:
        """The version. `shared`: everybody's; else the tenant's own, or everybody's where it has none (runs of before do not say)."""
        own = None if shared else self._graphs.get((tenant, name, version))
        return own or self._graphs.get((ALL_TENANTS, name, version))


def conditions(node: AnyNode) -> Iterator[tuple[str, Condition]]:
    """The node's conditions, with their paths inside it."""
    match node:
        case Branch():
            for i, path in enumerate(node.paths):
                if path.when is not None:
                    yield f"paths[{i}].when", path.when
        case Decide():
            for i, factor in enumerate(node.factors):
                if factor.when is not None:
                    yield f"factors[{i}].when", factor.when
        case Await():
            if node.when is not None:
                yield "when", node.when
        case Loop():
            if node.repeat is not None:
                yield "repeat", node.repeat
        case _:
            return


def templates(node: AnyNode) -> Iterator[tuple[str, CommandTemplate]]:
    """The node's command templates, with their paths inside it."""
    match node:
        case Act():
            yield "command", node.command
            if node.undo is not None:
                yield "undo", node.undo
        case Approve():
            yield "request", node.request
        case _:
            return


def texts(value: JsonValue, path: str) -> Iterator[tuple[str, str]]:
    """Every string in it, with its path."""
    match value:
        case str():
            yield path, value
        case list():
            for i, item in enumerate(value):
                yield from texts(item, f"{path}[{i}]")
        case dict():
            for k, item in value.items():
                yield from texts(item, f"{path}.{k}")


def _wanted(workflow: Workflow) -> Iterator[str]:
    for pattern in workflow.events.values():
        yield from (f.split(".")[0] for f in pattern.same)
    for node in workflow.nodes:
        for _, condition in conditions(node):
            yield from (f.split(".")[0] for f in fields(condition))
        for path, template in templates(node):
            for _, text in texts(template.model_dump(mode="json"), path):
                yield from _names(text)
        match node:
            case Each():
                yield node.items.split(".")[0]
            case Decide(of=str() as path):
                yield path.split(".")[0]
            case Wait(until=DateField() as until):
                yield until.field.split(".")[0]
            case Wait(until=LocalTime() | OpenHours() as open_):
                if open_.zone_field is not None:
                    yield open_.zone_field.split(".")[0]
            case _:
                pass


@lru_cache(maxsize=8192)
def _names(text: str) -> frozenset[str]:
    if "{" not in text:
        return frozenset()
    try:
        return frozenset(meta.find_undeclared_variables(parsed(_PARSER, text)))
    except (TemplateError, TooComplex):
        return frozenset()  # `problems` refuses it
