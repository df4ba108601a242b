"""What is wrong with a workflow before anything of it runs: path and reason, everything at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from core.people.asked import asked_by
from core.people.people import KINDS
from core.rules.render import RenderError, asked, foreign
from core.workflows.graph import templates, texts
from core.workflows.times import NoSuchTime, ends, zone_named
from core.workflows.waits import subjects_of
from core.workflows.ways import arrows, bodies
from schemas.definitions import Workflow
from schemas.workflows import (
    MAX_CALL_DEPTH,
    Act,
    AnyNode,
    Approve,
    Await,
    Call,
    Decide,
    Lasting,
    OpenHours,
    Parallel,
    Split,
    Wait,
)

START: Final = "start"


def problems(workflow: Workflow) -> list[str]:
    """Everything that is wrong, each with its path."""
    places = {node.id: i for i, node in enumerate(workflow.nodes)}
    if len(places) != len(workflow.nodes):
        return list(_twice(workflow))
    found = [*_names(workflow), *_targets(workflow, places), *_publishing(workflow, places), *_profiles(workflow)]
    for i, node in enumerate(workflow.nodes):
        found += (f"nodes[{i}] ({node.id}): {p}" if p else "" for p in _node(workflow, node))
    return found or [*_graph(workflow, places), *_templates(workflow)]


def _twice(workflow: Workflow) -> Iterator[str]:
    seen: set[str] = set()
    for i, node in enumerate(workflow.nodes):
        if node.id in seen:
            yield f"nodes[{i}] ({node.id}): id: there is another node of this id"
        seen.add(node.id)


def _names(workflow: Workflow) -> Iterator[str]:
    known = set(workflow.events)
    for field, names in (("goals", workflow.goals), ("exits", workflow.exits)):
        for i, name in enumerate(names):
            if name not in known:
                yield f"{field}[{i}]: no event {name!r} under `events`"


def _publishing(workflow: Workflow, places: Mapping[str, int]) -> Iterator[str]:
    if (workflow.publish == "migrate") != bool(workflow.migrate):
        yield "migrate: `publish: migrate` and a mapping of nodes go together"
    for old, new in workflow.migrate.items():
        if new not in places:
            yield f"migrate.{old}: no node {new!r}"


def _profiles(workflow: Workflow) -> Iterator[str]:
    about = subjects_of(workflow)
    asked = sorted(asked_by(workflow))
    if asked and not any(kind in KINDS for kind in about):
        kinds = ", ".join(KINDS)
        yield f"trigger: {asked[0]} is of a profile, and runs about a {' or '.join(about)} have none; only a {kinds} has"


def _targets(workflow: Workflow, places: Mapping[str, int]) -> Iterator[str]:
    if workflow.start not in places:
        yield f"start: no node {workflow.start!r}"
    for i, node in enumerate(workflow.nodes):
        for path, to in [*arrows(node), *bodies(node)]:
            if to is not None and to not in places:
                yield f"nodes[{i}] ({node.id}): {path}: no node {to!r}"


def _node(workflow: Workflow, node: AnyNode) -> Iterator[str]:
    match node:
        case Await():
            if not node.events and node.when is None:
                yield "events: it waits for nothing; name an event under its `events`, or give a condition as `when`"
            for name in node.events:
                if name not in workflow.events:
                    yield f"events.{name}: no event {name!r} under `events`"
            if node.timeout is None and workflow.lasts is None:
                yield "timeout: it may wait for ever; give it a timeout, or the workflow a longest life (`lasts`)"
            if node.timeout is None and node.timed_out is not None:
                yield "timed_out: never taken, for there is no timeout"
            if node.when is None and node.met is not None:
                yield "met: never taken, for there is no `when`"
        case Split():
            names = [a.name for a in node.arms]
            if len(set(names)) != len(names):
                yield "arms: two arms of one name"
            if not any(a.weight for a in node.arms):
                yield "arms: no arm has a weight"
            if node.winner is not None and node.winner not in names:
                yield f"winner: no arm {node.winner!r}"
        case Decide():
            if node.low_to >= node.high_from:
                yield "low_to: it stands at or above high_from, so nothing could be unsure"
            if node.of is None and not node.factors:
                yield "factors: no score to decide by; name a fact as `of`, or give factors"
            if node.of is not None and node.factors:
                yield "factors: the score is the fact named as `of`; give one of them"
        case Parallel():
            if isinstance(node.join, int) and node.join > len(node.branches):
                yield f"join: {node.join} of {len(node.branches)} branches can never end"
        case Approve():
            if (node.delegate is None) != (node.delegate_after is None):
                yield "delegate: give `delegate` and `delegate_after` together"
            if node.delegate_after is not None and node.delegate_after >= node.deadline:
                yield "delegate_after: not before the deadline, so the delegate would never be asked"
        case Act():
            if node.retry.attempts > 1 and node.wait == "nothing":
                yield "retry: only a step that waits for its delivery can be tried again (`wait: delivery`)"
        case Wait():
            yield from _until(node)
        case _:
            return


def _until(node: Wait) -> Iterator[str]:
    until = node.until
    if isinstance(until, Lasting):
        return
    try:
        zone_named(until.zone)
    except ValueError as error:
        yield f"until.zone: {error}"
        return
    if isinstance(until, OpenHours):
        if until.opens == until.closes:
            yield "until.closes: the same as opens"
            return
        try:
            ends(until, 0, {})
        except NoSuchTime as error:
            yield f"until: {error}"


def _graph(workflow: Workflow, places: Mapping[str, int]) -> Iterator[str]:
    """Reached from the start, each inside the same bodies whichever way it is reached, and no circle but by `loop`."""
    nodes = {n.id: n for n in workflow.nodes}
    context: dict[str, tuple[str, ...]] = {workflow.start: ()}
    ahead = [workflow.start]
    conflicting: set[str] = set()
    while ahead:
        here = ahead.pop()
        inside = context[here]
        steps = [(to, inside) for _, to in arrows(nodes[here])]
        steps += [(to, (*inside, here)) for _, to in bodies(nodes[here])]
        for to, where in steps:
            if to is None or to in conflicting:
                continue
            if to not in context:
                context[to] = where
                ahead.append(to)
            elif context[to] != where:
                conflicting.add(to)
    for name in sorted(conflicting, key=places.__getitem__):
        owner = next(iter(context[name][-1:]), "")
        place = f"inside {owner!r}" if owner else "outside of any body"
        yield (
            f"nodes[{places[name]}] ({name}): it is reached both {place} and from another place; "
            "a body ends where an arrow is left out, and no arrow leads into or out of it"
        )
    for i, node in enumerate(workflow.nodes):
        if node.id not in context:
            yield f"nodes[{i}] ({node.id}): nothing leads to it"
    if not conflicting:
        for circle in _circles(nodes, context):
            yield (
                f"nodes[{places[circle[0]]}] ({circle[0]}): an endless loop: {' → '.join([*circle, circle[0]])}; "
                "repeat with a `loop` node, which has bounds"
            )


def _circles(nodes: Mapping[str, AnyNode], reached: Iterable[str]) -> Iterator[list[str]]:
    """The first circle of arrows that is found; bodies cannot make one, for nothing leads out of them."""
    state: dict[str, int] = defaultdict(int)
    for root in reached:
        if state[root]:
            continue
        path: list[str] = []
        stack: list[tuple[str, list[str]]] = [(root, [to for _, to in arrows(nodes[root]) if to is not None])]
        state[root] = 1
        path.append(root)
        while stack:
            here, ways = stack[-1]
            if not ways:
                state[here] = 2
                stack.pop()
                path.pop()
                continue
            to = ways.pop()
            if state[to] == 1:
                yield path[path.index(to) :]
                return
            if state[to] == 0:
                state[to] = 1
                path.append(to)
                stack.append((to, [t for _, t in arrows(nodes[to]) if t is not None]))


def _templates(workflow: Workflow) -> Iterator[str]:
    for i, node in enumerate(workflow.nodes):
        for place, template in templates(node):
            for path, text in texts(template.model_dump(mode="json"), place):
                try:
                    if (why := foreign(asked(text))) is not None:
                        yield f"nodes[{i}] ({node.id}): {path}: {why}"
                except RenderError as error:
                    yield f"nodes[{i}] ({node.id}): {path}: {error}"


def call_problems(workflow: Workflow, known: Mapping[str, Workflow]) -> Iterator[str]:
    """Calls of workflows that are not known or retired, that come back to themselves, or nest too deep. A retired one calls none."""
    if workflow.retired is not None:
        return
    for i, node in enumerate(workflow.nodes):
        if not isinstance(node, Call):
            continue
        where = f"nodes[{i}] ({node.id}): workflow"
        if node.workflow not in known:
            yield f"{where}: no workflow {node.workflow!r}"
            continue
        if known[node.workflow].retired is not None:
            yield f"{where}: {node.workflow} is retired: no new run can call it"
        depth, level = 1, {node.workflow}
        while level and depth <= MAX_CALL_DEPTH and workflow.name not in level:
            level = {
                n.workflow for name in level for n in known[name].nodes if isinstance(n, Call) and n.workflow in known
            }
            depth += 1
        if workflow.name in level:
            yield f"{where}: {node.workflow} calls {workflow.name} again: an endless loop"
        elif level:
            yield f"{where}: calls nest deeper than {MAX_CALL_DEPTH}"
