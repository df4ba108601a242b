"""Ways: where a node's arrows lead, into which bodies, and what lies before and behind a node of a workflow."""

from __future__ import annotations

from collections import defaultdict

from schemas.definitions import Workflow
from schemas.workflows import (
    Act,
    AnyNode,
    Approve,
    Await,
    Branch,
    Decide,
    Each,
    Exit,
    Loop,
    Parallel,
    Split,
    Wait,
)

Arrow = tuple[str, str | None]
"""(path inside the node, where it leads)."""


def arrows(node: AnyNode) -> list[Arrow]:
    """Where its ways out lead; those into bodies are no ways out."""
    match node:
        case Branch():
            return [*((f"paths[{i}].next", p.next) for i, p in enumerate(node.paths)), ("otherwise", node.otherwise)]
        case Split():
            return [(f"arms[{i}].next", a.next) for i, a in enumerate(node.arms)]
        case Decide():
            return [("high", node.high), ("low", node.low), ("unsure", node.unsure)]
        case Await():
            ways: list[Arrow] = [(f"events.{name}", to) for name, to in node.events.items()]
            ways += [("met", node.met)] if node.when is not None else []
            return [*ways, ("timed_out", node.timed_out)] if node.timeout is not None else ways
        case Approve():
            return [("approved", node.approved), ("rejected", node.rejected), ("expired", node.expired)]
        case Act():
            return [("next", node.next), *([("failed", node.failed)] if node.failed is not None else [])]
        case Wait():
            return [("next", node.next), *([("missing", node.missing)] if node.missing is not None else [])]
        case Loop():
            return [("next", node.next), *([("exhausted", node.exhausted)] if node.exhausted is not None else [])]
        case Exit():
            return []
        case _:
            return [("next", node.next)]


def bodies(node: AnyNode) -> list[Arrow]:
    """The first nodes of its bodies."""
    match node:
        case Loop() | Each():
            return [("body", node.body)]
        case Parallel():
            return [(f"branches[{i}]", b) for i, b in enumerate(node.branches)]
        case _:
            return []


class Ways:
    """A workflow's nodes as they lie to each other. Arrows never lead into or out of a body (`problems` refuses it)."""

    def __init__(self, workflow: Workflow) -> None:
        self._nodes = {node.id: node for node in workflow.nodes}
        self._after = {name: [to for _, to in arrows(node) if to is not None] for name, node in self._nodes.items()}
        self._before: dict[str, list[str]] = defaultdict(list)
        for name, following in self._after.items():
            for to in following:
                self._before[to].append(name)
        self.inside: dict[str, tuple[str, ...]] = {}
        """Node → the nodes whose bodies it stands in, outermost first; only those that are reached."""
        ahead: list[tuple[str, tuple[str, ...]]] = [(workflow.start, ())]
        while ahead:
            here, outside = ahead.pop()
            if here in self.inside or here not in self._nodes:
                continue
            self.inside[here] = outside
            ahead += ((to, outside) for to in self._after[here])
            ahead += ((to, (*outside, here)) for _, to in bodies(self._nodes[here]) if to is not None)

    def before(self, node: str) -> frozenset[str]:
        """Nodes that a path may have come through before this one, in the same body."""
        return _reached(node, self._before)

    def behind(self, node: str) -> frozenset[str]:
        """Nodes that a path may come to after this one, in the same body."""
        return _reached(node, self._after)


def _reached(start: str, ways: dict[str, list[str]]) -> frozenset[str]:
    found: set[str] = set()
    ahead = list(ways.get(start, ()))
    while ahead:
        here = ahead.pop()
        if here not in found:
            found.add(here)
            ahead += ways.get(here, ())
    return frozenset(found)
