"""Versions that parked runs hold: what runs are pinned to, how many are, and what those ask for. Rows `workflow` of a desk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from core.same import once
from core.workflows.graph import Graph, Library
from core.workflows.parked import Pins
from core.workflows.run import GOALS
from schemas.definitions import DEFINITION, Definition, Workflow

Place = tuple[str, str, int]
"""Owner, name and version of a workflow."""


@lru_cache(maxsize=64)
def definition_of(value: bytes) -> Definition:
    """The definition in a row, the same one for the same bytes: many runs are pinned to it. Raises `ValueError` where it is none."""
    return DEFINITION.validate_json(value)


@once(64)
def _written(workflow: Workflow) -> bytes:
    """The definition as a row."""
    return DEFINITION.dump_json(workflow)


class Held:
    """Of one desk. `changed`: names of rows that a checkpoint has to write; `kept`: whether somebody needs a version besides runs."""

    def __init__(self, library: Library, changed: set[tuple[str, ...]], kept: Callable[[Place], bool]) -> None:
        self._library, self._changed, self._kept = library, changed, kept
        self._versions: dict[Place, Workflow] = {}
        self._pinned: Counter[Pins] = Counter()
        """How many runs are pinned so."""
        self._places: dict[Pins, list[Place]] = {}
        """Every workflow that they need."""
        self._needed: Counter[Place] = Counter()
        self._asks: dict[Pins, bool] = {}
        """Whether runs that are pinned so ask for profiles."""
        self._asking: Counter[str] = Counter()
        """Tenant → of those, how many do."""

    def going_on(self) -> dict[str, int]:
        """Workflow → its runs that go on."""
        found: dict[str, int] = {}
        for pins, runs in self._pinned.items():
            found[pins.workflow] = found.get(pins.workflow, 0) + runs
        return found

    def needs(self, place: Place) -> bool:
        """Whether a run that goes on needs this version."""
        return self._needed[place] > 0

    def asks(self, tenant: str) -> bool:
        """Whether a run of the tenant looks at profiles."""
        return self._asking[tenant] > 0

    def before(self, tenant: str, workflow: Workflow) -> bool:
        """Whether the tenant's runs of versions before this one go on."""
        for pins in self._pinned:
            if (pins.tenant, pins.workflow) == (tenant, workflow.name):
                version = dict(pins.versions)[""]
                graph = self._library.get(tenant, workflow.name, version, "" in pins.shared)
                if version < workflow.version and graph is not None and graph.workflow.tenant == workflow.tenant:
                    return True
        return False

    def pin(self, pins: Pins, runs: int) -> None:
        """So many more runs are pinned so: the versions that they need stay."""
        self._pinned[pins] += runs
        if pins in self._places:
            return
        self._asks[pins] = bool(self.persons(pins))
        self._asking[pins.tenant] += self._asks[pins]
        self._places[pins] = places = []
        for name, version in pins.versions:
            graph = self._graph(pins, name, version)
            if graph is None:
                continue
            place = (graph.workflow.tenant, graph.workflow.name, version)
            places.append(place)
            self._needed[place] += 1
            if place not in self._versions:
                self._versions[place] = graph.workflow
                self._changed.add(("workflow", place[0], place[1], str(place[2])))

    def unpin(self, pins: Pins) -> None:
        """One run less is pinned so: versions that only it needed go."""
        self._pinned[pins] -= 1
        if self._pinned[pins] > 0:
            return
        del self._pinned[pins]
        self._asking[pins.tenant] -= self._asks.pop(pins, False)
        for place in self._places.pop(pins, ()):
            self._needed[place] -= 1
            if self._needed[place] <= 0:
                del self._needed[place]
                self._versions.pop(place, None)
                self._changed.add(("workflow", place[0], place[1], str(place[2])))
                if not self._kept(place):
                    self._library.drop(*place)

    def workflows(self, pins: Pins) -> list[Workflow]:
        """The versions that runs which are pinned so need."""
        graphs = (self._graph(pins, name, version) for name, version in pins.versions)
        return [graph.workflow for graph in graphs if graph is not None]

    def persons(self, pins: Pins) -> frozenset[str]:
        """Facts of profiles that runs which are pinned so ask for."""
        found: set[str] = set()
        for name, version in pins.versions:
            graph = self._graph(pins, name, version)
            found |= graph.persons if graph is not None else frozenset()
        return frozenset(found)

    def asked(self, graph: Graph, tenant: str) -> frozenset[str]:
        """Facts of profiles that a run of this workflow which begins now, with those that it calls, asks for."""
        if not graph.calls:
            return graph.persons
        versions, shared = self._library.pins(graph, tenant)
        return self.persons(Pins(tenant, graph.workflow.name, tuple(versions.items()), tuple(shared)))

    # --- rows -------------------------------------------------------------------------------------------------------

    def row(self, place: Place) -> bytes | None:
        """The version as a state row; None where no run needs it."""
        found = self._versions.get(place)
        return None if found is None else _written(found)

    def load(self, place: Place, value: bytes | None) -> None:
        """Take a row back; None: it is deleted after all."""
        if value is None:
            self._versions.pop(place, None)
            return
        found = definition_of(value)
        if isinstance(found, Workflow):
            self._versions[place] = found
            self._library.put(found)

    def loaded(self, pinned: Counter[Pins]) -> None:
        """Every row is there; `pinned`: what the runs say."""
        for counted in (self._pinned, self._places, self._needed, self._asks, self._asking):
            counted.clear()
        for pins, runs in pinned.items():
            self.pin(pins, runs)

    def _graph(self, pins: Pins, name: str, version: int) -> Graph | None:
        of = pins.workflow if name in ("", GOALS) else name
        return self._library.get(pins.tenant, of, version, name in pins.shared)
