"""Moving runs between versions: whether a token finds its place in another version of its workflow, and where that is.

A run moves whole or not at all. It keeps its version where a node is gone or is another kind of node, where a node stands in
other bodies, and where a command of before could be given again: ids of commands derive from paths, and no path is passed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from core.workflows.graph import Graph, Pinned
from core.workflows.run import GOALS, Frame, Run
from schemas.workflows import Call, Parallel

_ACTS: Final = frozenset(("act", "approve", "compensate", "loop", "each", "parallel", "call"))
"""Kinds of nodes that give commands, or hold others that do."""


class Landing(NamedTuple):
    """Where a token goes on."""

    node: str
    enters: bool
    """Whether it enters the node anew; else it goes on waiting as it waited."""


class Stays(NamedTuple):
    """Why it cannot."""

    reason: str
    """no_such_node · another_kind · stands_elsewhere · would_repeat · undo_gone · paused."""
    node: str


def landing(
    old: Graph,
    new: Graph,
    owners: Sequence[str],
    node: str,
    nodes: Mapping[str, str],
    turns: Sequence[int] = (),
    passed: Iterable[str] = (),
) -> Landing | Stays:
    """Where a token at `node`, in the bodies of `owners`, goes on. All are of the run's own graph; a token in a called workflow is at
    its `call`. `turns`: of the owners, where they are known; `passed`: nodes that it came through in versions before `old`.
    """
    levels = [*owners, node]
    for depth, name in enumerate(levels):
        to = nodes.get(name, name)
        was, now = old.nodes.get(name), new.nodes.get(to)
        if was is None or now is None:
            return Stays("no_such_node", name)
        last = depth == len(owners)
        enters = was.kind != now.kind
        if enters and not (last and name in nodes):
            return Stays("another_kind", name)
        if isinstance(was, Call) and isinstance(now, Call) and was.workflow != now.workflow:
            return Stays("another_kind", name)
        if isinstance(now, Parallel) and depth < len(turns) and turns[depth] >= len(now.branches):
            return Stays("stands_elsewhere", name)
        if new.ways.inside.get(to) != tuple(nodes.get(n, n) for n in levels[:depth]):
            return Stays("stands_elsewhere", name)
        ahead = new.ways.behind(to) | ({to} if enters else frozenset())
        again = sorted(n for n in ahead & old.ways.before(name).union(passed) if new.nodes[n].kind in _ACTS)
        if again:
            return Stays("would_repeat", again[0])
    return Landing(nodes.get(node, node), enters)


def landings(run: Run, old: Graph, new: Graph, nodes: Mapping[str, str]) -> dict[int, Landing] | Stays:
    """Where each of the run's tokens goes on, by the token's id; the first reason why one of them cannot."""
    found: dict[int, Landing] = {}
    for token in run.tokens:
        frames, node = own_part(token.stack, token.node)
        here = landing(old, new, [f.node for f in frames], node, nodes, [f.turn for f in frames], run.passed)
        if isinstance(here, Stays):
            return here
        if here.enters and run.paused is not None:
            return Stays("paused", node)
        found[token.id] = here
    for done in run.done:
        _, node = own_part(done.stack, done.node)
        if nodes.get(node, node) not in new.nodes:
            return Stays("undo_gone", node)
    return found


def own_part(stack: Sequence[Frame], node: str) -> tuple[list[Frame], str]:
    """The frames and the node in the run's own graph; of a token in a called workflow, the frames around the call, and the call."""
    for depth, frame in enumerate(stack):
        if frame.graph is not None:
            return list(stack[:depth]), frame.node
    return list(stack), node


def renamed(stack: Sequence[Frame], node: str, nodes: Mapping[str, str]) -> tuple[list[Frame], str]:
    """A place of the version before as it is called in this one."""
    frames: list[Frame] = []
    for depth, frame in enumerate(stack):
        frames.append(Frame(nodes.get(frame.node, frame.node), frame.turn, frame.since, frame.graph))
        if frame.graph is not None:
            return [*frames, *stack[depth + 1 :]], node
    return frames, nodes.get(node, node)


def passed(run: Run, old: Graph) -> list[str]:
    """What the run may have come through by now, should it leave this version."""
    found = set(run.passed)
    for token in run.tokens:
        frames, node = own_part(token.stack, token.node)
        for name in (*(f.node for f in frames), node):
            found |= old.ways.before(name)
    return sorted(found)


def pins_after(run: Run, wanted: Pinned) -> Pinned:
    """`wanted`, but called workflows that the run is in stay as they are, and so do the goals."""
    inside = {f.graph for token in run.tokens for f in token.stack if f.graph is not None}
    goals = GOALS if GOALS in run.pins else ""
    kept = {**{name: run.pins[name] for name in inside}, GOALS: run.pins[goals]}
    shared = {name for name in wanted.shared if name not in kept} | {name for name in inside if name in run.shared}
    if goals in run.shared:
        shared.add(GOALS)
    return Pinned(dict(sorted({**wanted.versions, **kept}.items())), sorted(shared))
