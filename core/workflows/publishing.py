"""Publishing: what a new version does to the runs of versions before it.

`pin` and `drain` need nothing told: a run holds its version, and the desk knows whether older ones go on. `follow` and
`migrate` are told to every partition of runs as a signal that carries the definition and the event time from which it holds; so
is a version that is retired and ends the runs of those before. Every run takes it as a job of its own: before anything that
happens at that time or later, and after whatever was due before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from core.people.asked import asked_by
from core.workflows.graph import Graph, Library
from core.workflows.held import definition_of
from schemas.definitions import DEFINITION, Workflow
from schemas.journeys import MAX_EARLIER
from schemas.registers import Signal
from schemas.workflows import EventPattern

PUBLISH: Final = "publish"
"""Kind of the signal."""
TELLING: Final = frozenset(("follow", "migrate"))
"""Policies that running runs are told of."""
ENDING: Final = frozenset(("cancel", "undo"))
"""How a retired workflow's runs end at once."""


class Publish(msgspec.Struct, frozen=True):
    """A version that runs of those before are to move to, or to end with where it is retired."""

    owner: str
    name: str
    version: int
    at: int
    """Event time from which it holds."""
    by: str
    nodes: dict[str, str]
    definition: bytes

    @property
    def row(self) -> tuple[str, ...]:
        """The name of its row in the state."""
        return (PUBLISH, self.owner, self.name, str(self.version))

    @property
    def place(self) -> tuple[str, str, int]:
        """Owner, name, version."""
        return self.owner, self.name, self.version

    @property
    def workflow(self) -> Workflow:
        """The version. Raises `ValueError` where it is none."""
        found = definition_of(self.definition)
        if not isinstance(found, Workflow):
            raise ValueError("what is published is no workflow")
        return found


_decode = msgspec.msgpack.Decoder(Publish).decode
_encode = msgspec.msgpack.Encoder().encode


def announcement(before: Workflow | None, after: Workflow, at: int, by: str) -> Signal | None:
    """What every partition of runs is told of a new version; None: nothing."""
    ends = after.retired in ENDING
    if before is None or not (ends or (after.publish in TELLING and after.retired is None)):
        return None
    data: dict[str, object] = {
        "by": by,
        "nodes": after.migrate if after.publish == "migrate" and not ends else {},
        "definition": after.model_dump(mode="json"),
    }
    return Signal(
        tenant=after.tenant,
        product="",
        subject="",
        kind=PUBLISH,
        cause=f"{after.name}|{after.version}",
        rules=[],
        at=max(at, after.effective_from),
        data=data,
    )


def read_announcement(signal: Signal) -> Publish:
    """What the signal tells. Raises `ValueError` where it does not hold what it should."""
    body = DEFINITION.validate_python(signal.data.get("definition"))
    nodes: Any = signal.data.get("nodes", {})
    if not isinstance(body, Workflow) or not isinstance(nodes, dict):
        raise ValueError("a publication holds a workflow and a mapping of nodes")
    by = str(signal.data.get("by", ""))
    known = {str(old): str(new) for old, new in nodes.items()}
    return Publish(body.tenant, body.name, body.version, signal.at, by, known, DEFINITION.dump_json(body))


def with_earlier(before: Workflow | None, after: Workflow) -> Workflow:
    """The version with what runs of those before may still wait for, so that METER goes on sending it: events, and what is said of
    people where they look at profiles.
    """
    if before is None:
        return after
    own = [_bare(p) for p in after.events.values()]
    found: list[EventPattern] = []
    for pattern in (*before.events.values(), *before.earlier):
        bare = _bare(pattern)
        if bare not in own and bare not in found:
            found.append(bare)
    asked = before.asked_before or bool(asked_by(before))
    return after.model_copy(update={"earlier": found[:MAX_EARLIER], "asked_before": asked})


def _bare(pattern: EventPattern) -> EventPattern:
    """As METER selects rows: whose cart it is, the run asks."""
    return EventPattern(topic=pattern.topic, where=pattern.where)


class Publishes:
    """Versions that runs of one desk are still to move to, and the runs that have not been looked at."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, ...], Publish] = {}
        self._left: dict[tuple[str, ...], deque[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def holds(self, place: tuple[str, str, int]) -> bool:
        """Whether runs are still to move to it."""
        return (PUBLISH, place[0], place[1], str(place[2])) in self._all

    def add(self, what: Publish) -> None:
        """One more."""
        self._all[what.row] = what

    def packed(self, row: tuple[str, ...]) -> bytes | None:
        """As a state row."""
        found = self._all.get(row)
        return None if found is None else _encode(found)

    def load(self, value: bytes) -> Publish:
        """Take a state row back."""
        found = _decode(value)
        self.add(found)
        return found

    def drop(self, row: tuple[str, ...]) -> None:
        """It is over."""
        self._all.pop(row, None)
        self._left.pop(row, None)

    def newer(self, owner: str, name: str, version: int, until: int) -> Publish | None:
        """The next version after this one that took effect by then."""
        found = [
            p
            for p in self._all.values()
            if (p.owner, p.name) == (owner, name) and p.version > version and p.at <= until
        ]
        return min(found, key=lambda p: p.version, default=None)

    def newest(self, graph: Graph, library: Library) -> Graph:
        """The graph, or a newer version of it that the catalogue has not shown yet."""
        workflow = graph.workflow
        found = [p for p in self._all.values() if (p.owner, p.name) == (workflow.tenant, workflow.name)]
        newest = max((p.version for p in found), default=0)
        newer = library.get(workflow.tenant, workflow.name, newest) if newest > workflow.version else None
        return graph if newer is None else newer

    @property
    def due(self) -> int | None:
        """When runs are to be looked at next; None: all have been."""
        return min((p.at for row, p in self._all.items() if self._left.get(row) != deque()), default=None)

    def next(self, clock: int, named: Callable[[str], Iterable[str]]) -> str | None:
        """A run that may have to move by then and has not been looked at; None: there is none."""
        for row, what in self._all.items():
            if what.at > clock:
                continue
            left = self._left.get(row)
            if left is None:
                left = self._left[row] = deque(named(what.name))
            if left:
                return left.popleft()
        return None

    def again(self, run: str) -> None:
        """The run has not been looked at after all."""
        for row, left in self._left.items():
            if row in self._all:
                left.appendleft(run)

    def done(self, clock: int, version: Callable[[str, str], int | None]) -> list[Publish]:
        """Drop and give those that every run has taken, once the catalogue shows them: nobody begins with an older version then."""
        over = []
        for row, what in list(self._all.items()):
            shown = version(what.owner, what.name)
            if what.at <= clock and not self._left.get(row, deque(("?",))) and (shown is None or shown >= what.version):
                over.append(what)
                self.drop(row)
        return over
