"""Workflows: where the subject's newest run stands, or why its newest trigger began none."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from app.runs import library_of
from app.why.common import frame, seen, silences, when
from app.why.events import edges, judged_up_to, looked
from app.why.findings import newest, product_of
from app.why.sources import CannotTell, Question, Sources, signals_of
from core.decide.explain import with_user
from core.people.asked import asked_by
from core.rules.conditions import flatten
from core.rules.why import checks, first_failed, told
from core.workflows.entry import Refused, admit
from core.workflows.graph import Library
from core.workflows.jobs import Record, Start
from core.workflows.replay import folded
from core.workflows.run import Run
from core.workflows.step import key_of, run_id
from core.workflows.testing import histories
from schemas.definitions import OnEvent, OnSegment, Workflow
from schemas.envelope import key
from schemas.why import Answer, Check
from schemas.workflows import Act, Approve, Await, Wait

_record = msgspec.json.Decoder(Record).decode
_REFUSED: Final = {
    "running": "a run of the same subject (and key) was going on, and `reentry` is `skip`",
    "entered_before": "the subject had entered before, and `reentry` is `once`",
    "too_soon": "the last entry was less than `reentry_after` ago",
}
Trigger = tuple[int, str, str, dict[str, object]]
"""(event time, cause, what, facts) of something that may begin a run."""


async def ran(sources: Sources, question: Question, workflow: Workflow) -> Answer:
    """The newest trigger up to then: the run that it began and where that stands, or why it began none."""
    tail = await sources.tail("runs", key(question.tenant, question.subject))
    records = [_record(row.value) for row in tail.rows if row.value is not None]
    mine = [r for r in records if r.workflow == workflow.name and r.job.at <= question.until]
    mine += await _before(sources, question, mine)
    runs = {id_: h for id_, h in histories(mine).items() if isinstance(h[0].job, Start)}
    begun = max(runs.values(), key=lambda h: h[0].job.at, default=None)
    triggers, said = await _triggers(sources, question, workflow)
    library = await library_of(sources.settings)
    woke = max(triggers, key=lambda t: t[0], default=None)
    product = _product(question, begun, woke)
    watermark = await judged_up_to(sources, question, product)
    common: dict[str, Any] = {
        "looked": f"{looked(tail, 'runs')}; {said}",
        "guards": _guards(sources, question, workflow),
    }
    if woke is not None and run_id(question.tenant, workflow.id, question.subject, woke[1]) not in runs:
        at, cause, what, facts = woke
        if begun is None or at > begun[0].job.at:
            person = await _person(sources, question, workflow, facts)
            refused = _refused(sources, question, workflow, library, list(runs.values()), woke, person)
            trigger = checks(workflow.trigger.where, flatten(facts)) if isinstance(workflow.trigger, OnEvent) else []
            condition = checks(workflow.condition, flatten({**facts, **person}))
            common |= {"trigger": trigger, "condition": condition, "seen": seen(what, at, cause)}
            if begun is not None:
                common |= _stands(library, begun)
            return frame(question, product, watermark, verdict=refused[0], reason=refused[1], **common)
    if begun is None:
        nothing = f"nothing that begins it was seen of {question.subject}"
        return frame(question, product, watermark, verdict="nothing_seen", reason=nothing, **common)
    last, start = begun[-1], begun[0].job
    assert isinstance(start, Start)
    common["seen"] = seen("the trigger", start.at, start.cause)
    if last.status != "running":
        ends = next((n for n in reversed(last.notes) if n.what == "ended"), None)
        end = ends.at if ends is not None else last.job.at
        said = f"its run {last.run} began at {when(start.at)} and ended at {when(end)}: {last.status} {last.outcome}".rstrip()
        return frame(question, product, watermark, verdict="ended", reason=said, **common)
    stands = _stands(library, begun)
    where = "; ".join(stands["waits_for"]) or "nothing that this version knows"
    said = f"its run {last.run} began at {when(start.at)} and goes on; it waits for {where}"
    return frame(question, product, watermark, verdict="running", reason=said, **common, **stands)


async def _before(sources: Sources, question: Question, mine: list[Record]) -> list[Record]:
    """What the histories of these runs hold under names that they were about before."""
    ids, found = {r.run for r in mine}, list[Record]()
    for name in sorted({name for r in mine for name in r.names}):
        tail = await sources.tail("runs", key(question.tenant, name))
        found += [r for row in tail.rows if row.value is not None and (r := _record(row.value)).run in ids]
    return found


async def _triggers(sources: Sources, question: Question, workflow: Workflow) -> tuple[list[Trigger], str]:
    """What was seen of the subject that may begin a run."""
    if isinstance(workflow.trigger, OnSegment):
        tail = await sources.tail("signals", key(question.tenant, question.subject))
        told_ = edges(tail, question, workflow.trigger)
        return [(s.at, s.cause, f"{workflow.trigger.edge} segment", dict(s.data)) for s in told_], looked(
            tail, "signals"
        )
    if not isinstance(workflow.trigger, OnEvent):
        try:
            product = await product_of(sources, question)
        except CannotTell:
            return [], "detections"
        woke = await newest(sources, question, product, workflow.trigger)
        if woke is None:
            return [], "detections"
        return [(woke.at, woke.id, woke.kind, with_user(woke.model_dump(mode="json")))], "detections"
    tail = await sources.tail("signals", key(question.tenant, question.subject))
    found: list[Trigger] = []
    for s in signals_of(tail):
        if workflow.name not in s.workflows or s.at > question.until or s.topic != workflow.trigger.topic:
            continue
        facts = {**s.data, "tenant": s.tenant, "product": s.product, "subject": s.subject, "at": s.at}
        if not s.subject.startswith(f"{workflow.trigger.subject}:"):
            continue
        # a workflow's named events are sent on as well: only what meets the trigger may begin a run
        if first_failed(checks(workflow.trigger.where, flatten(facts))) is None:
            found.append((s.at, s.cause, str(s.data.get("type")), facts))
    return found, looked(tail, "signals")


async def _person(sources: Sources, question: Question, workflow: Workflow, facts: dict[str, object]) -> dict[str, Any]:
    """The subject's profile as it stands now, where the workflow asks for it."""
    if not asked_by(workflow):
        return {}
    task = await sources.signals(question.tenant, question.subject)
    return task.people.facts(question.tenant, str(facts.get("product", question.product)), question.subject)


def _refused(
    sources: Sources,
    question: Question,
    workflow: Workflow,
    library: Library,
    runs: list[list[Record]],
    woke: Trigger,
    person: dict[str, Any],
) -> tuple[Any, str]:
    """Why the trigger began no run."""
    at, _, _, facts = woke
    if workflow.retired is not None:
        return "not_in_force", "the workflow is retired: it begins no runs"
    if workflow.effective_from > at:
        return (
            "not_in_force",
            f"version {workflow.version} applies to what happens from {when(workflow.effective_from)} on",
        )
    failed = first_failed(checks(workflow.condition, flatten({**facts, **person})))
    if failed is not None:
        return "condition", told(failed)
    graph = library.put(workflow)
    same = [h for h in runs if isinstance(h[0].job, Start) and key_of(graph, h[0].job.data) == key_of(graph, facts)]
    before = [h for h in same if h[0].job.at <= at]
    going = [h for h in before if h[-1].status == "running" or h[-1].job.at > at]
    entered = max((h[0].job.at for h in before), default=None)
    decided = admit(workflow, [folded(library, h[:1]) for h in going], entered, at)
    if isinstance(decided, Refused):
        return "refused", _REFUSED.get(decided.reason, decided.reason)
    paused = any(sources.catalogue.paused(question.tenant, rule=name) for name in {workflow.id, workflow.name})
    if paused:
        return "held_back", "the workflow (or its tenant) is paused"
    return (
        "unknown",
        "a trigger was seen, and no run of it: ORCHESTRATE has not read it yet, the workflow was published later or was paused "
        "then, or the row was backfill that must not act",
    )


def _stands(library: Library, history: list[Record]) -> dict[str, Any]:
    """Where a run that goes on waits, and until when."""
    try:
        run: Run = folded(library, history)
    except LookupError:
        return {"waits_for": []}
    waits: list[str] = []
    for token in run.tokens:
        of = token.graph()
        graph = library.get(run.tenant, of or run.workflow, run.pins.get(of, 0), of in run.shared)
        node = None if graph is None else graph.nodes.get(token.node)
        match node:
            case Await():
                asked = ", ".join(node.events) or "its condition"
                what = f"one of: {asked}"
            case Wait():
                what = "its time"
            case Act():
                what = "the receipt of its command"
            case Approve():
                what = f"the answer of {token.memo.get('assignee', node.assignee)}"
            case _:
                what = "its body"
        until = f" until {when(token.due)}" if token.due is not None else ""
        waits.append(f"{token.path()}: {what}{until} (since {when(token.since)})")
    return {"waits_for": waits, "due": run.due}


def _guards(sources: Sources, question: Question, workflow: Workflow) -> list[Check]:
    paused = any(sources.catalogue.paused(question.tenant, rule=name) for name in {workflow.id, workflow.name})
    return [Check(text="not paused", value=paused, held=not paused), *silences(sources, question, workflow)]


def _product(question: Question, begun: list[Record] | None, woke: Trigger | None) -> str | None:
    if question.product is not None:
        return question.product
    if woke is not None:
        found = woke[3].get("product")
        return found if isinstance(found, str) else None
    start = begun[0].job if begun else None
    return start.product if isinstance(start, Start) else None
