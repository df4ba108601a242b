"""A desk: all runs of some subjects. Events, receipts, answers and time in; what each run made of it out.

Where a tenant's workflows ask for profiles, the desk keeps them too. What happens reaches runs that ask then when event time has
passed it, in its order: so they see of the subject what had happened until then, whichever topic told it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from core.people.asked import picked
from core.people.people import KINDS, Edge, Judge, Outcome, Told
from core.people.profile import TOPICS as PEOPLE
from core.rules.conditions import flatten
from core.workflows.entry import Enter, Refused, admit
from core.workflows.graph import Graph
from core.workflows.happened import Came as Came
from core.workflows.happened import Occurrence as Occurrence
from core.workflows.happened import record_of
from core.workflows.holding import Holding
from core.workflows.jobs import (
    Approval,
    Cancel,
    Event,
    Job,
    Move,
    Note,
    Order,
    Pause,
    Person,
    Receipt,
    Renamed,
    Resume,
    Start,
    Timer,
)
from core.workflows.parked import pins_of
from core.workflows.publishing import Publish
from core.workflows.run import Run, pack, unpack
from core.workflows.step import begin, key_of, run_id, take
from schemas.definitions import Workflow

_encode = msgspec.msgpack.Encoder().encode
_occurrence = msgspec.msgpack.Decoder(Occurrence).decode


class Desk(Holding):
    """Tells runs what happens. `shelf`: the workflows in force."""

    # --- what happens -----------------------------------------------------------------------------------------------

    def happened(self, what: Occurrence, now: int, named: bool = True, says: bool = True) -> list[Came]:
        """Tell the subject's runs, then begin those that it triggers; those that ask for profiles when event time has passed it.

        `named`: whether a workflow waits for it; else it only says something of the subject. `says`: whether it does.
        """
        later = self.asks(what.tenant, what.subject)
        came = self._hear(what, now, asking=False if later else None)
        if later:
            word = what.data if says and what.topic in PEOPLE else None
            told = Told(what.at, what.cause, word, ["runs"], _encode(what), now)
            came += self.came(self.people.take((what.tenant, what.product, what.subject), told), now)
        if named and (self._shelf.look_back_ms(what.tenant) or self.aliases.concerns(what.tenant)):
            self.recent.add((what.tenant, what.subject), Event(what.at, what.cause, what.topic, what.data))
        return came

    def asks(self, tenant: str, subject: str) -> bool:
        """Whether runs about such a subject look at its profile."""
        return (self._shelf.asking(tenant) or self.held.asks(tenant)) and subject.partition(":")[0] in KINDS

    def merged(
        self, tenant: str, product: str, subject: str, row: list[Any], at: int, cause: str, now: int
    ) -> list[Came]:
        """What another name of the subject was known for is the subject's."""
        if not self.asks(tenant, subject):
            return []
        came = self.came(self.people.merge((tenant, product, subject), row, at, cause, now), now)
        return [*came, *self._refresh(tenant, subject, at, now)]

    def says(self, what: Occurrence, now: int) -> None:
        """What happened says something of a subject whose runs are about another name of it."""
        if self.asks(what.tenant, what.subject):
            told = Told(what.at, what.cause, what.data, [], b"", now)
            self.came(self.people.take((what.tenant, what.product, what.subject), told), now)

    def receipt(self, tenant: str, subject: str, receipt: Receipt, now: int) -> list[Came]:
        """Tell the subject's runs what became of a command."""
        return self._tell(tenant, subject, receipt, now)

    def answer(self, run: str, answer: Approval, now: int) -> list[Came]:
        """A person's answer to a run; nothing where it is not (or no longer) here."""
        return self.take(run, answer, now)

    def cancel(self, run: str, why: Cancel, now: int) -> list[Came]:
        """End a run."""
        return self.take(run, why, now)

    def told(self, run: str, word: Pause | Resume, now: int) -> list[Came]:
        """Let a run stand still, or go on."""
        return self.take(run, word, now)

    def move(self, run: str, at: int, by: str, nodes: dict[str, str], now: int) -> list[Came]:
        """Move a run to the version in force, where it fits there."""
        value = self._parked.packed(run)
        if value is None:
            return []
        found = unpack(value)
        graph = self._shelf.named(found.tenant, found.workflow)
        if graph is None:
            return []
        pins, shared = self.library.pins(graph, found.tenant)
        return self.take(run, Move(at, by, graph.workflow.version, pins, nodes, shared), now)

    def published(self, what: Publish) -> None:
        """A version whose policy concerns the runs of versions before: they move, or end, when the clock has come to `what.at`."""
        self.library.put(what.workflow)
        self._publishes.add(what)
        self.changed.add(what.row)

    def trigger(self, names: list[str], what: Occurrence, now: int) -> list[Came]:
        """Begin runs of these workflows because somebody asks for it, whatever their triggers wait for."""
        came: list[Came] = []
        for name in names:
            graph = self._shelf.named(what.tenant, name)
            if graph is None:
                self.refused["unknown_workflow"] += 1
            else:
                came += self._begin(graph, what, now)
        return came

    def advance(self, clock: int, now: int, most: int | None = None) -> list[Came]:
        """Fire what is due by then, earliest first; where there is more than `most`, the rest stays due."""
        came, passed = self._redefined(clock, now), 0
        while most is None or max(len(came), passed) < most:
            held, due = self.people.first(), self._parked.due
            if held is not None and held[0] <= clock and (due is None or held[0] <= due):
                came += self.came(self.people.advance(held[1], held[2], held[0]), now)
                passed += 1
                continue
            woken = self._parked.wake(clock)
            if woken is None:
                break
            due, run = woken
            if not self._still(run):
                came += self.take(run, Timer(due), now)
        else:
            return came
        while (moving := self._publishes.next(clock, self._parked.named)) is not None:
            if most is not None and len(came) >= most:
                self._publishes.again(moving)
                return came
            came += self._moved(moving, clock, now)
        for done in self._publishes.done(clock, self._shelf.version):
            self.changed.add(done.row)
            if not self.held.needs(done.place) and not self._shelf.in_force(*done.place):
                self.library.drop(*done.place)
        self.clock = max(self.clock, clock)
        self.aliases.age(self.clock)
        self.recent.age(self.clock, self._shelf.look_back_ms)
        return came

    @property
    def due(self) -> int | None:
        """When the next run is to be woken at the earliest; None: by a job only."""
        held = self.people.first()
        known = (self._parked.due, self._publishes.due, None if held is None else held[0])
        return min((due for due in known if due is not None), default=None)

    # --- names that are another's -----------------------------------------------------------------------------------

    def adopt(self, run: Run, job: Renamed, now: int) -> list[Came]:
        """A run that was about another name goes on here."""
        effects = take(self.library, run, job, now)
        self.held.pin(pins_of(run), 1)
        came = self._settled(run, job, effects, now, None)
        return [came] if effects else []  # it may come back to the name that it has

    def wind(self, tenant: str, subject: str) -> None:
        """The subject waits no longer for runs of another name: its timers count again."""
        for run in self.runs(tenant, subject):
            self._parked.keep(run, pack(run))

    def _still(self, run: str) -> bool:
        """Whether the run's time stands still until runs of another name of its subject have come."""
        found = self.run(run) if self.aliases.waiting else None
        return found is not None and self.aliases.waits(found.tenant, found.subject)

    # --- profiles ---------------------------------------------------------------------------------------------------

    def _hear(self, what: Occurrence, now: int, asking: bool | None) -> list[Came]:
        """Tell runs, and begin those that are triggered: all, or only those that do (or do not) ask for profiles."""
        came: list[Came] = []
        if asking:
            came += self._refresh(what.tenant, what.subject, what.at, now)
        event = Event(what.at, what.cause, what.topic, what.data)
        for run in self._parked.of(what.tenant, what.subject):
            if asking is None or bool(self._wanted(run)) == asking:
                came += self.take(run, event, now)
        flat = flatten({**what.data, "at": what.at})

        def profile() -> dict[str, Any]:
            return flatten(self.people.facts(what.tenant, what.product, what.subject))

        person = profile if asking else None
        for graph in self._shelf.triggered(what.tenant, what.topic, what.name, what.subject, what.at, flat, person):
            if asking is None or bool(self.held.asked(graph, what.tenant)) == asking:
                came += self._begin(graph, what, now)
        return came

    def came(self, outcomes: Iterable[Outcome], now: int) -> list[Came]:
        """What comes of the people's news."""
        came: list[Came] = []
        for found in outcomes:
            match found:
                case Judge():
                    came += self._hear(_occurrence(found.signal), now, asking=True)
                case Edge():
                    came += self._refresh(found.tenant, found.subject, found.at, now)
                case str():
                    self.let_go[found] += 1
                case _:  # DECIDE tells where another name's profile goes
                    continue
        return came

    def _redefined(self, clock: int, now: int) -> list[Came]:
        """Segments that were defined anew: who is in them is looked at again."""
        if self._generation == self._shelf.catalogue.generation:
            return []
        self._generation = self._shelf.catalogue.generation
        return [
            one
            for product in self.people.products()
            for one in self.came(self.people.redefined(*product, clock, now), now)
        ]

    def _refresh(self, tenant: str, subject: str, at: int, now: int) -> list[Came]:
        """Tell the subject's runs what its profile says now, where that is news."""
        came: list[Came] = []
        for run in self._parked.of(tenant, subject):
            value = self._parked.packed(run)
            wanted = self._wanted(run)
            news = self._news(unpack(value), wanted, at) if value is not None and wanted else None
            if news is not None:
                came += self.take(run, news, now)
        return came

    def _news(self, run: Run, wanted: frozenset[str], at: int) -> Person | None:
        facts = picked(self.people.facts(run.tenant, run.product, run.subject), wanted)
        return None if facts == run.knows else Person(at, facts)

    def _wanted(self, id_: str) -> frozenset[str]:
        """Facts of profiles that the run asks for."""
        value = self._parked.packed(id_)
        return frozenset() if value is None else self.held.persons(pins_of(unpack(value)))

    def _person(self, graph: Graph, what: Occurrence) -> dict[str, Any]:
        """What a run that begins now is told of its subject."""
        wanted = self.held.asked(graph, what.tenant)
        return picked(self.people.facts(what.tenant, what.product, what.subject), wanted) if wanted else {}

    # --- inside -----------------------------------------------------------------------------------------------------

    def _tell(self, tenant: str, subject: str, job: Job, now: int) -> list[Came]:
        came: list[Came] = []
        for run in self._parked.of(tenant, subject):
            came += self.take(run, job, now)
        return came

    def take(self, id_: str, job: Job, now: int) -> list[Came]:
        """Give the run a job; nothing where it is not (or no longer) here."""
        value = self._parked.packed(id_)
        if value is None:
            return []
        if not self._publishes:
            return self._given(unpack(value), job, now)
        # What is published takes effect at its time, whichever of the two is looked at first.
        came = self._moved(id_, job.at, now)
        value = self._parked.packed(id_)
        return came if value is None else came + self._given(unpack(value), job, now)

    def caught_up(self, id_: str, at: int, now: int) -> list[Came]:
        """End the run's waits that ended before that time, however far timers have been fired."""
        came: list[Came] = []
        fired = -1
        while (run := self.run(id_)) is not None and (due := run.due) is not None and fired < due < at:
            # Each is later than the one before it, or there would be no end.
            came += self.take(id_, Timer(due), now)
            fired = due
        return came

    def _given(self, run: Run, job: Job, now: int) -> list[Came]:
        before, pins, jobs = run.due, pins_of(run), run.jobs
        effects = take(self.library, run, job, now)
        # A job that is the run's business may say nothing and change it, as the end of a wait that ends a branch.
        if run.jobs == jobs:
            return []
        if isinstance(job, Move) and pins_of(run) != pins:
            self.held.pin(pins_of(run), 1)
            self.held.unpin(pins)
        return [self._settled(run, job, effects, now, before)]

    def _moved(self, id_: str, until: int, now: int) -> list[Came]:
        """Move the run to the versions that took effect by then, or end it where one of them is retired."""
        came: list[Came] = []
        while (value := self._parked.packed(id_)) is not None:
            run = unpack(value)
            graph = self.library.get(run.tenant, run.workflow, run.pins[""], "" in run.shared)
            owner = run.tenant if graph is None else graph.workflow.tenant
            version = max(run.pins[""], run.offered)
            what = self._publishes.newer(owner, run.workflow, version, until)
            new = None if what is None else self.library.get(what.owner, run.workflow, what.version)
            if what is None or new is None:
                break
            self._shelf.refresh(run.tenant)
            if new.workflow.retired is not None:
                why = Cancel(max(what.at, run.began), what.by, new.workflow.retired == "undo")
                came += self._given(run, why, now)
                break
            pins, shared = self.library.pins(new, run.tenant)
            at = max(what.at, run.began)
            news = self._news(run, self.held.persons(pins_of(run)) | new.persons, at) if new.persons else None
            if news is not None:  # it may enter nodes that look at them
                came += self._given(run, news, now)
                continue
            came += self._given(run, Move(at, what.by, what.version, pins, what.nodes, shared), now)
        return came

    def _drains(self, tenant: str, workflow: Workflow) -> bool:
        """Whether runs of versions before have to end first."""
        return workflow.publish == "drain" and self.held.before(tenant, workflow)

    def _begin(self, graph: Graph, what: Occurrence, now: int) -> list[Came]:
        graph = self._publishes.newest(graph, self.library)
        person = self._person(graph, what)
        workflow = graph.workflow
        if not what.act:
            self.refused["backfill"] += 1
            return []
        if workflow.retired is not None:
            self.refused["retired"] += 1
            return []
        if self._shelf.paused(what.tenant, workflow):
            self.refused["paused"] += 1
            return []
        if self._drains(what.tenant, workflow):
            self.refused["draining"] += 1
            return []
        key = key_of(graph, what.data)
        theirs = self.runs(what.tenant, what.subject)
        going = [r for r in theirs if r.workflow == workflow.name and r.key == key]
        # Whether they go on when the trigger comes depends on when things happened, not on how far timers have been fired.
        came = [one for run in going for one in self.caught_up(run.id, what.at, now)]
        if came:
            theirs = self.runs(what.tenant, what.subject)
            going = [r for r in theirs if r.workflow == workflow.name and r.key == key]
        entry = (what.tenant, workflow.name, what.subject, key)
        found = admit(workflow, going, self.entries.last(*entry), what.at)
        if isinstance(found, Enter) and any(r.cause == what.cause for r in theirs):
            if run_id(what.tenant, workflow.id, what.subject, what.cause) in self._parked:
                found = Refused("running")
        if isinstance(found, Refused):
            self.refused[found.reason] += 1
            return came
        for old in found.replaced:
            came += self.take(old, Cancel(what.at, "reentry"), now)
        since, looks = what.at - graph.look_back_ms, self._shelf.look_back_ms(what.tenant) > 0
        recent = self.recent.between((what.tenant, what.subject), since, what.at) if looks else []
        data, trace = what.data, what.traceparent
        job = Start(what.at, what.cause, what.subject, what.product, data, recent, trace, person, what.past)
        run, effects = begin(self.library, graph, what.tenant, job, now)
        if workflow.reentry == "once" or workflow.reentry_after:
            self.entries.enter(*entry, what.at)
        self.held.pin(pins_of(run), 1)
        return [*came, self._settled(run, job, effects, now, None)]

    def _settled(self, run: Run, job: Job, effects: list[Order | Note], now: int, before: int | None) -> Came:
        own = self.library.get(run.tenant, run.workflow, run.pins.get("", 0), "" in run.shared)
        if run.running:
            self._parked.keep(run, pack(run), before)
            self.changed.add(("run", run.id))
        else:
            self._drop(run)
        commands = [e.command for e in effects if isinstance(e, Order)]
        notes = [e for e in effects if isinstance(e, Note)]
        record = record_of(run, job, notes, commands, now)
        shadow = own is not None and own.workflow.mode == "shadow"
        return Came(record, commands, sum(n.what == "failed" for n in notes), shadow)
