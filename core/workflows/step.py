"""`step(library, run, job, now) → run, effects`: all that ever happens to a run.

Jobs carry event times, and the run's clock is the latest of them. A wait that ends before a job's time ends first, at its own
time: what a run does depends on when things happened, not on when a timer was read. What comes late (behind the run's clock)
is taken at the run's clock, and noted. Branches of a parallel go on in order, each as far as it can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from core.rules.conditions import flatten
from core.same import once
from core.workflows.going import Going
from core.workflows.graph import Graph, Library, Pinned
from core.workflows.jobs import (
    Approval,
    Cancel,
    Effect,
    Event,
    Job,
    Move,
    Pause,
    Person,
    Receipt,
    Renamed,
    Resume,
    Start,
    Timer,
)
from core.workflows.moving import Stays, landings, passed, pins_after, renamed
from core.workflows.nodes.acting import compensate
from core.workflows.nodes.base import Go, Happened
from core.workflows.run import GOALS, MOST_HELD, Run, Seen, pack, unpack
from core.workflows.walk import Walk, lookup
from schemas.envelope import derived_id


def run_id(tenant: str, workflow: str, subject: str, cause: str) -> str:
    """The run that this cause begins. `workflow`: the definition's id, as in command ids."""
    return derived_id("run", tenant, workflow, subject, cause)


def key_of(graph: Graph, data: dict[str, object]) -> str:
    """The values of the definition's `key` fields among the trigger's, as JSON."""
    if not graph.workflow.key:
        return "[]"
    return json.dumps([lookup(data, f) for f in graph.workflow.key], separators=(",", ":"), default=str)


def begin(
    library: Library, graph: Graph, tenant: str, job: Start, now: int, pinned: Pinned | None = None
) -> tuple[Run, list[Effect]]:
    """A new run, as far as it comes at once. `pinned`: the versions that it keeps; absent: those that are in the library now. A called
    workflow that is in no version at hand is found missing when it is called.
    """
    workflow = graph.workflow
    pins, shared = library.pins(graph, tenant) if pinned is None else pinned
    graphs = (library.get(tenant, name or workflow.name, version, name in shared) for name, version in pins.items())
    wanted = set().union(*(g.wanted for g in graphs if g is not None))
    run = Run(
        id=run_id(tenant, workflow.id, job.subject, job.cause),
        tenant=tenant,
        product=job.product,
        workflow=workflow.name,
        pins=dict(pins),
        shared=list(shared),
        subject=job.subject,
        cause=job.cause,
        key=key_of(graph, job.data),
        began=job.at,
        clock=job.at,
        facts={name: value for name, value in job.data.items() if name in wanted},
        ends_at=None if workflow.lasts is None else job.at + workflow.lasts * 1000,
        traceparent=job.traceparent,
        person=dict(job.person),
        past=job.past,
    )
    return run, take(library, run, job, now)


def step(library: Library, run: Run, job: Job, now: int) -> tuple[Run, list[Effect]]:
    """The run after the job, and what it wants done. The run that is given stays as it is. A run that has ended takes nothing.

    Raises `LookupError` where a version that the run is pinned to is not in the library.
    """
    copy = unpack(pack(run))
    return copy, take(library, copy, job, now)


def take(library: Library, run: Run, job: Job, now: int) -> list[Effect]:
    """`step` in place, for whoever holds the only copy of the run."""
    if not run.running:
        return []
    stepping = Stepping(Walk(library, run, now))
    stepping.take(job)
    return stepping.walk.effects


class Stepping(Going):
    """One job being taken, in place."""

    _named: tuple[Event, list[tuple[str, str]]] | None = None
    """What an event is to the run, as it was found last: what that depends on stays while a job is taken."""

    def take(self, job: Job) -> None:
        """Take it."""
        run, walk = self.run, self.walk
        if not self._concerned(job):
            return
        run.jobs += 1
        if isinstance(job, Start):
            walk.note(None, "began", cause=job.cause)
            for event in job.recent:
                self._see(event, 0)
            token = self._token([])
            self._go(token, Go(walk.graph.workflow.start))
        elif isinstance(job, Renamed):
            # What it waits for stays, and so does its time.
            run.names, run.subject = [*run.names, run.subject], job.subject
            walk.note(None, "renamed", was=run.names[-1], subject=job.subject)
        elif run.paused is not None and not isinstance(job, (Cancel, Resume, Move)):
            self._hold(job)
        elif isinstance(job, Pause):
            run.paused = max(run.clock, job.at)
            walk.note(None, "paused", by=job.by)
        elif run.past and isinstance(job, Receipt):
            self._job(job, False)  # a delivery takes no time of the run's
            self._catch_up()
        else:
            self._at_its_time(job)

    def _at_its_time(self, job: Job) -> None:
        run = self.run
        if run.paused is None and not run.delivering:
            self._advance(job.at, isinstance(job, Timer))
        if run.running and run.paused is None and run.delivering and isinstance(job, (Event, Person, Approval)):
            run.held.append(job)
            self.walk.note(None, "held", job=type(job).__name__.lower())
            if len(run.held) >= MOST_HELD:
                self._leave_behind()
        elif run.running:
            late = job.at < run.clock
            run.clock = max(run.clock, job.at)
            self._job(job, late)

    def _leave_behind(self) -> None:
        """Too much has come: the run's time goes on, and what is delivered counts when it is told."""
        for token in self.run.tokens:
            if "command" in token.memo:
                token.memo = {**token.memo, "left": True}
        self._catch_up()

    def _catch_up(self) -> None:
        """Take what came while a delivery was waited for, in the order in which it came."""
        held, self.run.held = self.run.held, []
        for n, job in enumerate(held):
            if not self.run.running:
                return
            if self.run.delivering:
                self.run.held += held[n:]
                return
            if self._concerned(job):
                self._at_its_time(job)

    def _concerned(self, job: Job) -> bool:
        """Whether the run waits for such a job. What it does not wait for must not even move its clock: which rows are sent on
        depends on what other workflows wait for.
        """
        match job:
            case Event():
                return bool(self._names(job)) or self._goal(job, []) is not None
            case Person():
                return job.facts != self.run.person
            case Timer():
                return self.run.due is not None and self.run.due <= job.at
            case Receipt():
                return any(t.memo.get("command") == job.command for t in self.run.tokens)
            case Approval():
                return any(t.path() == job.step for t in self.run.tokens)
            case Pause():
                return self.run.paused is None
            case Renamed():
                return self.run.subject != job.subject
            case Resume():
                return self.run.paused is not None
            case Move():
                return job.version not in (self.run.pins[""], self.run.offered) or self._another(job)
            case _:
                return True

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _job(self, job: Job, late: bool) -> None:
        match job:
            case Event():
                names = self._see(job)
                if not self._ended(job, names, late):
                    self._wake_all(Happened(names, job.at))
            case Person():
                self._knows(job)
                self._wake_all(Happened([], job.at))
            case Resume():
                self._resume(job)
            case Move():
                self._move(job)
            case Receipt() | Approval():
                self._wake_all(job)
            case Cancel():
                if job.compensate:
                    compensate(self.walk)
                self._end("cancelled", job.by)
            case _:
                pass

    def _ended(self, job: Event, names: list[str], late: bool) -> bool:
        """Whether it is a goal or an exit, and so the end."""
        self.walk.note(None, "late" if late else "event", names=names, occurred_at=job.at)
        exit_ = next((name for name in self.walk.graph.workflow.exits if name in names), None)
        for met, status in ((self._goal(job, names), "goal"), (exit_, "exited")):
            # What happened before the run began was no success of it.
            if met is not None and job.at >= self.run.began:
                self._end(status, met)
                return True
        return False

    def _goal(self, job: Event, names: list[str]) -> str | None:
        """The goal that the event reaches, as goals were when the run began. `names`: of the event, in the version of today."""
        graph = self.walk.graph
        if GOALS in self.run.pins:
            graph = self.walk.graph_of(GOALS)
            names = graph.matched(job.topic, _flat(job), self.run.facts)
        return next((name for name in graph.workflow.goals if name in names), None)

    def _knows(self, job: Person) -> None:
        before, self.run.person = self.run.person, job.facts
        old, new = flatten(before), flatten(job.facts)
        changed = sorted(p for p in old.keys() | new.keys() if old.get(p) != new.get(p))
        self.walk.note(None, "person", changed=changed)

    # --- standing still ---------------------------------------------------------------------------------------------

    def _hold(self, job: Job) -> None:
        """Remember what came: events are seen, and may end the run; receipts and answers wait."""
        match job:
            case Event():
                self._ended(job, self._see(job), False)
            case Person():
                self._knows(job)
            case Receipt() | Approval():
                self.run.held.append(job)
                self.walk.note(None, "held", job=type(job).__name__.lower())
            case _:
                return

    def _resume(self, job: Resume) -> None:
        """Take receipts and answers, then events that were awaited, then waits that have run out, all of them now."""
        run = self.run
        since, run.paused = run.paused or 0, None
        held, run.held = run.held, []
        self.walk.note(None, "resumed", by=job.by)
        for one in held:
            if isinstance(one, (Event, Person)):
                self._job(one, False)
            else:
                self._wake_all(one)
        seen = sorted((s.at, place) for place, s in run.seen.items() if s.at >= since and not s.used)
        for token in list(run.tokens):
            node = token.node
            for at, place in seen:
                if not run.running or token not in run.tokens or token.node != node:
                    break
                if token.since <= since and (token.due is None or at <= token.due):
                    self._wake(token, Happened([place], at))
        if run.person:
            self._wake_all(Happened([], run.clock))
        self._advance(run.clock, True)

    # --- other versions ---------------------------------------------------------------------------------------------

    def _target(self, job: Move) -> Graph | None:
        return self.walk.library.get(self.run.tenant, self.run.workflow, job.version, "" in job.shared)

    def _another(self, job: Move) -> bool:
        """Whether it leads from everybody's workflow to the tenant's own one of that name, or back: their versions count apart."""
        new = self._target(job)
        return new is not None and new.workflow.tenant != self.walk.graph.workflow.tenant

    def _move(self, job: Move) -> None:
        """To the other version, whole, or not at all."""
        run, walk, old = self.run, self.walk, self.walk.graph
        new, another = self._target(job), self._another(job)
        if new is None:
            run.offered = job.version
            walk.note(None, "kept", version=job.version, reason="unknown_version")
            return
        found = landings(run, old, new, job.nodes)
        if isinstance(found, Stays):
            run.offered = run.offered if another else job.version
            walk.note(None, "kept", version=job.version, reason=found.reason, node=found.node)
            return
        run.passed, before = passed(run, old), run.pins[""]
        run.pins, run.shared = pins_after(run, Pinned(job.pins, job.shared))
        run.offered = 0 if another else run.offered
        walk.turn_over()
        entering = [(token, found[token.id].node) for token in run.tokens if found[token.id].enters]
        for token in run.tokens:
            token.stack, token.node = renamed(token.stack, token.node, job.nodes)
        for done in run.done:
            done.stack, done.node = renamed(done.stack, done.node, job.nodes)
        run.out = {job.nodes.get(node, node): left for node, left in run.out.items()}
        run.joins = {_renamed_path(path, job.nodes): count for path, count in run.joins.items()}
        if new.workflow.lasts is not None:
            run.ends_at = run.began + new.workflow.lasts * 1000
        walk.note(None, "moved", **{"from": before, "to": job.version, "by": job.by})
        for token, node in entering:
            if run.running and token in run.tokens:
                self._go(token, Go(node))

    def _see(self, job: Event, counts: int = 1) -> list[str]:
        """Remember the event under its names, in the run's own graph and those that it may call. One from before counts 0."""
        found, run = self._names(job), self.run
        flat = _flat(job)
        for graph, name in found:
            place = f"{graph}/{name}" if graph else name
            before = run.seen.get(place)
            count = counts if before is None else before.count + counts
            if before is not None and job.at < before.at:
                before.count = count
                continue
            keep = self.walk.graph_of(graph).workflow.events[name].keep
            kept = {path: flat[path] for path in keep if flat.get(path) is not None}
            run.seen[place] = Seen(count, job.at, kept, False)
        return [f"{graph}/{name}" if graph else name for graph, name in found]

    def _names(self, job: Event) -> list[tuple[str, str]]:
        """(graph, name) of every named event that it is, in the run's own graph and those that it may call."""
        known = self._named
        if known is None or known[0] is not job:
            flat, facts = _flat(job), self.run.facts
            names = [
                (graph, name)
                for graph in self.run.pins
                if graph != GOALS
                for name in self.walk.graph_of(graph).matched(job.topic, flat, facts)
            ]
            known = self._named = (job, names)
        return known[1]


@once(8)
def _flat(event: Event) -> dict[str, object]:
    """Its fields and its time as conditions read them. All runs of a subject are told the same event."""
    return flatten({**event.data, "at": event.at})


def _renamed_path(path: str, nodes: Mapping[str, str]) -> str:
    parts = (part.partition(":") for part in path.split("/"))
    return "/".join(f"{nodes.get(node, node)}{mark}{turn}" for node, mark, turn in parts)
