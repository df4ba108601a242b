"""The shelf: workflows in force, by what triggers them; a live view of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.definitions import Catalogue
from core.rules.columns import required
from core.rules.conditions import holds
from core.rules.matching import name_of, names_of
from core.workflows.graph import Graph, Library
from schemas.definitions import OnEvent, Workflow
from schemas.detections import Detection

DETECTIONS = "detections"
_COMMON = frozenset(("product", "type"))
"""Fields that tell workflows apart less well than others."""


class Shelf:
    """Workflows of each tenant. A tenant's own one hides everybody's of that name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._generation = -1
        self.library = Library()
        self._by_trigger: dict[str, dict[str, _Begun]] = {}
        self._look_back: dict[str, int] = {}
        self._asking: dict[str, bool] = {}
        self._by_name: dict[str, dict[str, Graph]] = {}

    def triggered(
        self,
        tenant: str,
        topic: str,
        name: str,
        subject: str,
        at: int,
        flat: Mapping[str, object],
        person: Callable[[], Mapping[str, object]] | None = None,
    ) -> list[Graph]:
        """Those that this event (or, on `detections`, finding of that name) begins, in order of id. `flat`: its fields; `person`:
        gives the facts of the subject's profile, which stand before the event's in conditions; called where one looks at them.
        """
        found = []
        begun = self._of(tenant).get(name or topic)
        for graph in begun.by(flat) if begun is not None else ():
            workflow = graph.workflow
            trigger = workflow.trigger
            if workflow.effective_from > at:
                continue
            if isinstance(trigger, OnEvent) and not (
                subject.startswith(f"{trigger.subject}:") and (trigger.where is None or holds(trigger.where, flat))
            ):
                continue
            known = flat if person is None or not graph.persons else {**flat, **person()}
            if workflow.condition is None or holds(workflow.condition, known):
                found.append(graph)
        return found

    def paused(self, tenant: str, workflow: Workflow) -> bool:
        """Whether the tenant or the workflow is paused."""
        return any(self.catalogue.paused(tenant, rule=name) for name in {workflow.id, workflow.name})

    def in_force(self, owner: str, name: str, version: int) -> bool:
        """Whether this is the version that new runs begin with."""
        return self.version(owner, name) == version

    def named(self, tenant: str, name: str) -> Graph | None:
        """The workflow of this name or id that the tenant's new runs begin with; None where none is in force."""
        self._of(tenant)
        return self._by_name[tenant].get(name)

    def version(self, owner: str, name: str) -> int | None:
        """The version in force; None: none is."""
        found = next((w for w in self.catalogue.of(Workflow) if (w.tenant, w.name) == (owner, name)), None)
        return None if found is None else found.version

    def refresh(self, tenant: str) -> None:
        """Have in the library what is in force now."""
        self._of(tenant)

    def look_back_ms(self, tenant: str) -> int:
        """The longest look back of any wait."""
        self._of(tenant)
        return self._look_back[tenant]

    def asking(self, tenant: str) -> bool:
        """Whether a workflow that the tenant's new runs begin with looks at profiles."""
        self._of(tenant)
        return self._asking[tenant]

    def _of(self, tenant: str) -> dict[str, _Begun]:
        if self._generation != self.catalogue.generation:
            self._by_trigger.clear()
            self.library.retired = frozenset((w.tenant, w.name) for w in self.catalogue.retired())
            self._generation = self.catalogue.generation
        found = self._by_trigger.get(tenant)
        if found is None:
            workflows: dict[str, Workflow] = {}
            for workflow in sorted(self.catalogue.of(Workflow, tenant), key=lambda w: w.tenant == tenant):
                workflows[workflow.name] = workflow
            found, look_back = {}, 0
            names = self._by_name[tenant] = {}
            for workflow in sorted(workflows.values(), key=lambda w: (w.id, w.name)):
                graph = self.library.put(workflow)
                names.setdefault(workflow.id, graph)
                for name in triggers_of(workflow):
                    found.setdefault(name, _Begun()).add(graph)
                look_back = max(look_back, graph.look_back_ms)
            names.update((name, self.library.put(workflow)) for name, workflow in workflows.items())
            self._by_trigger[tenant], self._look_back[tenant] = found, look_back
            self._asking[tenant] = any(graph.persons for graph in names.values())
        return found


class _Begun:
    """Graphs that one topic, or one finding, may begin: found by a value that their triggers require."""

    def __init__(self) -> None:
        self._count = 0
        self._any: list[tuple[int, Graph]] = []
        self._by_value: dict[str, dict[object, list[tuple[int, Graph]]]] = {}

    def add(self, graph: Graph) -> None:
        """One more, behind the others."""
        self._count += 1
        entry, trigger = (self._count, graph), graph.workflow.trigger
        needs = required(trigger.where) if isinstance(trigger, OnEvent) else {}
        if not needs:
            self._any.append(entry)
            return
        field = min(needs, key=lambda f: (f in _COMMON, f))
        for value in dict.fromkeys(needs[field]):
            self._by_value.setdefault(field, {}).setdefault(value, []).append(entry)

    def by(self, flat: Mapping[str, object]) -> list[Graph]:
        """Those that facts with these values may begin, in the order in which they were added."""
        found = list(self._any)
        for field, by_value in self._by_value.items():
            value = flat.get(field)
            if isinstance(value, str):
                found += by_value.get(value, ())
        return [graph for _, graph in sorted(found, key=lambda e: e[0])]


def triggers_of(workflow: Workflow) -> list[str]:
    """What the workflow is found by: the topic of its event, or the names of its detections."""
    trigger: Any = workflow.trigger
    return [trigger.topic] if isinstance(trigger, OnEvent) else names_of(trigger)


def finding(found: Detection) -> str:
    """The name by which workflows wait for a detection."""
    return name_of(found)
