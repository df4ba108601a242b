"""Who stands where: which runs a person means, and what each policy would do to those that go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from core.rules.conditions import flatten, holds
from core.workflows.graph import Graph, Library
from core.workflows.moving import Stays, landing
from core.workflows.run import Run
from schemas.conditions import Bounded
from schemas.definitions import Workflow
from schemas.workflows import Call

Where = tuple[int, tuple[str, ...], bool]
"""Version, places and whether it is paused."""
Word = Literal["cancel", "pause", "resume", "move"]
"""What can be said to many runs at once."""
_STAYS: Final = "stays in version {}"
FATES: Final = {
    "finish": "go on to their end",
    "cancel": "end now",
    "undo": "take back what has an undo, and end now",
}
"""What runs of a retired workflow do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Runs that a person means; what is None asks for nothing."""

    workflow: str
    tenant: str | None = None
    version: int | None = None
    node: str | None = None
    """A node at which (or in whose body) the run waits."""
    where: Bounded = None
    """Over the facts that the run keeps of its trigger, and `subject`, `product`, `began`."""

    def holds(self, run: Run) -> bool:
        """Whether the run is meant."""
        if run.workflow != self.workflow or self.tenant not in (None, run.tenant):
            return False
        if self.version not in (None, run.pins[""]):
            return False
        if self.node is not None and not any(self.node in place.split("/") for place in run.places):
            return False
        return self.where is None or holds(self.where, flatten(facts_of(run)))


def facts_of(run: Run) -> dict[str, object]:
    """What a condition over runs finds."""
    return {**run.facts, "subject": run.subject, "product": run.product, "tenant": run.tenant, "began": run.began}


class Line(BaseModel):
    """Runs that stand alike, and what each policy would do to them."""

    version: int
    places: list[str]
    """Where they wait: nodes, behind those whose bodies they are in."""
    paused: bool
    runs: int
    pin: str
    follow: str
    drain: str
    migrate: str


class Preview(BaseModel):
    """Who stands where, before a version of a workflow is published."""

    workflow: str
    publish: Annotated[str, Field(description="The policy that the version asks for.")]
    runs: int
    lines: list[Line]
    retired: Annotated[str | None, Field(description="What a version that is out of force does to them.")] = None
    new_fields: list[str]
    """Fields of the trigger that this version looks at and runs of those before have not kept: they find nothing there."""


def where_of(run: Run) -> Where:
    """How the run stands."""
    return run.pins[""], tuple(run.places), run.paused is not None


def preview(library: Library, tenant: str, after: Workflow, standing: Mapping[Where, int]) -> Preview:
    """What publishing `after` would do to the runs of versions before it. `library`: has those versions, as far as they are known."""
    new, lines, fields = Graph(after), [], set[str]()
    for (version, places, paused), runs in sorted(standing.items()):
        old = library.get(tenant, after.name, version)
        if old is not None:
            fields |= new.wanted - old.wanted - _OURS
        follow = _fate(old, new, places, {}, paused, version)
        moved = _fate(old, new, places, after.migrate, paused, version) if after.migrate else "needs `migrate`"
        stays = _STAYS.format(version)
        drain = f"{stays}, and nobody enters before it has ended"
        line = Line(
            version=version,
            places=list(places),
            paused=paused,
            runs=runs,
            pin=stays,
            follow=follow,
            drain=drain,
            migrate=moved,
        )
        lines.append(line)
    if after.retired is not None:
        fields.clear()
    return Preview(
        workflow=after.name,
        publish=after.publish,
        runs=sum(standing.values()),
        lines=lines,
        retired=None if after.retired is None else FATES[after.retired],
        new_fields=sorted(fields),
    )


_OURS: Final = frozenset(
    "at tenant product subject run began now seen last out turn index item reason owner assignee answer_as command".split()
)
"""Facts that every run has, whatever its trigger."""


def _fate(
    old: Graph | None, new: Graph, places: Iterable[str], nodes: Mapping[str, str], paused: bool, version: int
) -> str:
    if old is None:
        return f"{_STAYS.format(version)}: it is not at hand"
    ways: list[str] = []
    for place in places:
        owners, node = _own(old, place.split("/"))
        found = landing(old, new, owners, node, nodes)
        if not isinstance(found, Stays) and found.enters and paused:
            found = Stays("paused", node)
        if isinstance(found, Stays):
            return f"{_STAYS.format(version)}: {found.reason} {found.node}"
        ways.append(f"{'enters' if found.enters else 'goes on at'} {found.node}")
    return ", ".join(ways) or "moves"


def _own(graph: Graph, parts: list[str]) -> tuple[list[str], str]:
    """The part of a place that is in the run's own graph."""
    for i, name in enumerate(parts):
        if isinstance(graph.nodes.get(name), Call):
            return parts[:i], name
    return parts[:-1], parts[-1]
