"""DECIDE's second task: signals in (single rows that a rule waits for, triggers by hand); commands and suppressions out.

What has no memory fires at once; rows of rules that remember wait for event time (`memories`), which the first task tells here in
signals of kind `clock`. A cool-down here is an event-time bucket, whose start is the cause: one command a bucket,
whichever row of it came first. A rule's ceiling is shared evenly by the partitions of `signals` (rounded up).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
from pydantic import ValidationError

from core.accounts import Book
from core.batch import Batch
from core.decide.explain import explain, facts_of
from core.decide.memories import Fired, Memories, Undone
from core.decide.occasions import fired, occasion_of, said, triggered
from core.decide.packing import decode
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit
from core.outcomes.exposures import Exposures, value_of
from core.people.asked import asks
from core.people.people import KINDS, Aliased, Edge, Judge, Outcome, People, Told
from core.people.profile import TOPICS as PEOPLE
from core.recovery import Recovered
from core.rules.acting import Actor, Occasion
from core.rules.conditions import flatten
from core.rules.matching import RuleIndex
from core.rules.memory import drain_actor, load_actor
from core.rules.patterns import Seen
from core.rules.waiting import is_conversion, remembers, steps_met
from core.task import StateRecord, TaskSpec
from schemas.definitions import Rule
from schemas.detections import DETECTION
from schemas.envelope import key as topic_key
from schemas.parts import encode_part
from schemas.registers import Signal

STEP = "decide.signals"
DAY_MS = 86_400_000
_read = msgspec.json.Decoder(Signal).decode


def signals_spec(catalogue: Catalogue, partitions: int, book: Book | None = None) -> TaskSpec:
    """How the tasks of `signals` are made. `book`: where their balances are added up."""
    book = book or Book("matched")
    return TaskSpec(
        role="decide",
        group="signals",
        topics=("signals",),
        make=lambda partition: SignalsTask(partition, partitions, catalogue, book),
        state_topic="state.decide.signals",
    )


class SignalsTask:
    """Partition `partition` of `signals`."""

    def __init__(self, partition: int, partitions: int, catalogue: Catalogue, book: Book | None = None) -> None:
        self.partition = partition
        self._catalogue = catalogue
        self._rules = RuleIndex(catalogue)
        self.actor = Actor(catalogue, f"{STEP}.{partition}", shares=partitions, book=book)
        self.memories = Memories(self._rules.named)
        self.exposures = Exposures(partition)
        self.people = People(catalogue)
        self._recovered = Recovered()
        self._forgot = 0
        self._asking: dict[tuple[str, str, int], bool] = {}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one state row; the later one of a key wins."""
        self._recovered.load(key, value)

    def loaded(self) -> None:
        """Build the state from its rows."""
        for row, scope, value in self._recovered.take():
            content = decode(value)
            if load_actor(self.actor, row, scope, content) or self.people.load(row, scope, content):
                continue
            if not self.memories.load(row, scope, content):
                self.exposures.load(row, scope, content)
        self.exposures.loaded()

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Meet each signal's rules, in order of rule id."""
        effects: list[Effect] = []
        for row, value in enumerate(batch.values):
            try:
                signal = _read(value or b"")
            except msgspec.MsgspecError as error:
                effects.append(self._dead(batch, row, str(error)))
                continue
            if signal.kind == "clock":
                effects += self._told(signal, int(batch.timestamps[row]))
            elif signal.kind in ("segment", "handover", "forward"):
                continue  # told to workflows; a segment's rules were met when it was found
            elif signal.kind == "merge" and not self.actor.knows_not(signal.tenant, signal.subject):
                effects += self._merge(signal, int(batch.timestamps[row]))
            elif signal.kind == "prediction" and not self.actor.knows_not(signal.tenant, signal.subject):
                try:
                    effects += self._predicted(signal, int(batch.timestamps[row]))
                except ValidationError as error:
                    effects.append(self._dead(batch, row, str(error).splitlines()[0]))
            elif self.actor.knows_not(signal.tenant, signal.subject):
                effects.append(Count("uptake_forgotten_total", 1, ("decide",)))
            else:
                effects += self._meet(signal, int(batch.timestamps[row]))
            effects += self._exposed()
        return effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Only records move this task; subjects that are to be forgotten are."""
        effects = self.actor.forget()
        if effects or self._forgot != self.actor.forgot:
            self._forgot = self.actor.forgot
            self.memories.forget(self.actor.knows_not)
            self.exposures.forget(self.actor.knows_not)
            self.people.forget(self.actor.knows_not)
        return [*effects, self.actor.balance()]

    def wake_at(self) -> int | None:
        """Never by itself."""
        return None

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        return drain_actor(self.actor) + self.memories.drain() + self.people.drain() + self.exposures.drain()

    def let_go(self) -> None:
        """Instead of `drain`, where nobody writes checkpoints: what waits to be written goes."""
        self.actor.memory.changed.clear()
        for kept in (self.memories, self.people, self.exposures):
            kept.let_go()

    def _unknown(self, signal: Signal) -> list[Effect]:
        """Rules that are asked for and are not (or no longer) in force: counted, for nobody else would notice."""
        missing = sum(self._rules.named(signal.tenant, name) is None for name in signal.rules)
        return [Count("uptake_failed_total", missing, (self.actor.step, "unknown_rule"))] if missing else []

    def _meet(self, signal: Signal, broker_time: int) -> list[Effect]:
        named = (self._rules.named(signal.tenant, name) for name in signal.rules)
        rules = sorted({r.name: r for r in named if r is not None}.values(), key=lambda r: (r.id, r.name))
        by_hand = signal.kind == "trigger"
        facts, effects = said(signal), self._unknown(signal)
        if by_hand:
            facts = facts_of(facts)
        else:
            flat = flatten(facts)
            effects += self._remember(rules, signal, flat)
            effects += self._converted(rules, signal, flat)
            rules = [r for r in rules if triggered(r, signal, flat)]
            effects += self._known(signal, [r.name for r in rules if self._asks(r)], broker_time)
            rules = [r for r in rules if not self._asks(r)]
        if not rules:
            return effects
        return effects + self._decide(rules, occasion_of(signal, facts, broker_time, by_hand))

    def _asks(self, rule: Rule) -> bool:
        """Whether the rule looks at profiles; versions of a rule are immutable, so each is looked through once."""
        version = (rule.tenant, rule.name, rule.version)
        found = self._asking.get(version)
        if found is None:
            if len(self._asking) > 10_000:
                self._asking.clear()
            found = self._asking[version] = asks(rule)
        return found

    def _decide(self, rules: list[Rule], occasion: Occasion) -> list[Effect]:
        """Meet the rules; those that ask for the subject's profile see it as it stands now."""
        asking = [r for r in rules if self._asks(r)]
        effects = self.actor.meet([r for r in rules if r not in asking], occasion)
        if asking:
            person = self.people.facts(occasion.tenant, occasion.product, occasion.subject)
            effects += self.actor.meet(asking, replace(occasion, facts={**occasion.facts, **person}))
        return effects

    def _known(self, signal: Signal, rules: list[str], broker_time: int) -> list[Effect]:
        """Keep what the event says of its subject, and the rules that wait for what others say of it until then."""
        says = signal.topic in PEOPLE and self.people.asked.by(signal.tenant)
        if not (says or rules) or signal.subject.partition(":")[0] not in KINDS:
            return []
        told = Told(
            signal.at,
            signal.cause,
            signal.data if says else None,
            rules,
            msgspec.json.encode(signal) if rules else b"",
            broker_time,
            signal.act,
            signal.late,
        )
        return self._came(self.people.take((signal.tenant, signal.product, signal.subject), told))

    def _came(self, outcomes: Iterable[Outcome]) -> list[Effect]:
        """What comes of the people's news."""
        effects: list[Effect] = []
        for found in outcomes:
            match found:
                case str():
                    effects.append(_let_go(found))
                case Judge():
                    signal = _read(found.signal)
                    named = (self._rules.named(signal.tenant, name) for name in found.rules)
                    occasion = occasion_of(signal, said(signal), found.broker, False)
                    effects += self._decide([r for r in named if r is not None], occasion)
                case Edge():
                    effects += self.edge(found)
                case Aliased():
                    merge = Signal(
                        tenant=found.tenant,
                        product=found.product,
                        subject=found.known,
                        kind="merge",
                        cause=found.cause,
                        rules=[],
                        at=found.at,
                        data={"profile": found.row},
                    )
                    effects.append(Emit("signals", topic_key(found.tenant, found.known), msgspec.json.encode(merge)))
        return effects

    def edge(self, found: Edge) -> list[Effect]:
        """A subject entered or left a segment: its rules are met, and whoever reads `signals` is told."""
        facts: dict[str, object] = {
            "tenant": found.tenant,
            "product": found.product,
            "subject": found.subject,
            "segment": found.segment,
            "edge": found.edge,
            "at": found.at,
        }
        signal = Signal(
            tenant=found.tenant,
            product=found.product,
            subject=found.subject,
            kind="segment",
            cause=found.cause,
            rules=[],
            at=found.at,
            data=facts,
            act=found.act,
        )
        rules = [
            r
            for r in self._rules.entering(found.tenant, found.segment, found.edge)
            if r.effective_from <= found.at and not self.actor.knows_not(found.tenant, found.subject)
        ]
        effects: list[Effect] = [
            Emit("signals", topic_key(found.tenant, found.subject), msgspec.json.encode(signal)),
            Count("uptake_signals_total", 1, ("segment",)),
        ]
        what = f"{found.edge} segment {found.segment}"
        occasion = occasion_of(signal, {**facts, "type": what}, found.broker, False)
        return effects + self._decide(rules, replace(occasion, bucketed=False))

    def _merge(self, signal: Signal, broker_time: int) -> list[Effect]:
        row = signal.data.get("profile")
        if not isinstance(row, list):
            return []
        place = (signal.tenant, signal.product, signal.subject)
        return self._came(self.people.merge(place, row, signal.at, signal.cause, broker_time))

    def _exposed(self) -> list[Effect]:
        """Those who met a measured rule just now enter its comparison."""
        refused = [self.exposures.begin(exposed) for exposed, _ in self.actor.exposed]
        self.actor.exposed.clear()
        return [_let_go(reason) for reason in refused if reason is not None]

    def _converted(self, rules: list[Rule], signal: Signal, flat: dict[str, object]) -> list[Effect]:
        """Count the row for those of the rules whose outcome it is."""
        values = {r.name: value_of(r, flat) for r in rules if is_conversion(r, signal.subject, flat, signal.topic)}
        if not values:
            return []
        refused = self.exposures.did(signal.tenant, signal.product, signal.subject, signal.cause, signal.at, values)
        return [] if refused is None else [_let_go(refused)]

    def _remember(self, rules: list[Rule], signal: Signal, flat: dict[str, object]) -> list[Effect]:
        """Keep the row for those of the rules that remember."""
        wanted: dict[str, list[int]] = {}
        for rule in rules:
            trigger = remembers(rule.trigger)
            if trigger is not None and rule.effective_from <= signal.at:
                steps = steps_met(trigger, signal.subject, flat, signal.topic)
                if steps:
                    wanted[rule.name] = steps
        if not wanted:
            return []
        seen = Seen(signal.at, signal.cause, signal.data, signal.act, signal.traceparent)
        about = (signal.tenant, signal.product, signal.subject)
        refused = self.memories.add(*about, seen, wanted, signal.late)
        return [] if refused is None else [_let_go(refused)]

    def _undo(self, found: Undone, clock: Signal, broker_time: int) -> list[Effect]:
        """A row that came late undoes a command."""
        occasion = fired(Fired(*found[:3]), clock.tenant, clock.product, broker_time)
        reason = f"A row that came late ({found.cause}) undoes this. {occasion.case.reason}"
        return self.actor.revise(found.rule, replace(occasion, case=replace(occasion.case, reason=reason)), False)

    def _predicted(self, signal: Signal, broker_time: int) -> list[Effect]:
        """METER says that a user's probability crossed or cleared: publish it, and meet the rules that wait for it."""
        found = DETECTION.validate_python(signal.data)
        effects: list[Effect] = [
            Emit("detections", topic_key(found.tenant, found.subject), found.model_dump_json().encode()),
            Count("uptake_detections_total", 1, (found.kind,)),
        ]
        occasion = Occasion(
            tenant=found.tenant,
            product=found.product,
            subject=found.subject,
            cause=found.id,
            at=found.at,
            act=found.act,
            facts=facts_of(found.model_dump()),
            case=explain(found, self._catalogue.product(found.tenant, found.product), 0),
            broker_time=broker_time,
        )
        return effects + self._decide(self._rules.met_by(found), occasion)

    def _told(self, clock: Signal, broker_time: int) -> list[Effect]:
        """Event time of a product has come so far: rows that waited count, and deadlines pass."""
        effects: list[Effect] = []
        for found in self.memories.tell(clock.tenant, clock.product, clock.at):
            if isinstance(found, str):
                effects.append(_let_go(found))
            elif self.actor.knows_not(clock.tenant, found.subject):
                continue
            elif isinstance(found, Undone):
                effects += self._undo(found, clock, broker_time)
            else:
                effects += self._came(self.people.advance(clock.tenant, clock.product, found.firing.at))
                effects += self._decide([found.rule], fired(found, clock.tenant, clock.product, broker_time))
                if self.actor.given:
                    self.actor.given.clear()
                    self.memories.commanded(clock.tenant, clock.product, found)
        effects += self._came(self.people.hear(clock.tenant, clock.product, clock.at, broker_time))
        effects += self._exposed()
        if self._rules.measuring(clock.tenant):
            counted = self.exposures.tell(clock.tenant, clock.product, clock.at)
            if counted is not None:
                effects.append(Emit("outcome.parts", topic_key(clock.tenant, clock.product), encode_part(counted)))
        return effects

    def _dead(self, batch: Batch, row: int, detail: str) -> DeadLetter:
        return DeadLetter(
            batch.topic,
            batch.partition,
            int(batch.offsets[row]),
            "decide",
            "invalid",
            detail,
            batch.rows.key(row),
            batch.values[row],
            int(batch.timestamps[row]),
            batch.headed.get(row, ()),
        )


def _let_go(reason: str) -> Effect:
    """A row (or a subject) that no rule will remember, counted."""
    return Count("uptake_late_rows_total", 1, ("signals", reason))
