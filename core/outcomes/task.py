"""DECIDE's third task: parts of outcomes and receipts in; the table `outcomes`, verdicts, reports and their commands out.

State rows: those of an actor, and `ledger` of each product. A harmful verdict writes a pause of the rule to `definitions`, where
everybody reads it and `uptake resume` lifts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from core.accounts import Book
from core.batch import Batch
from core.decide.explain import detection_id, explain, facts_of
from core.decide.packing import decode, encode, key
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from core.outcomes.ledger import DAY_MS, Experiment, Ledger
from core.outcomes.report import due, report
from core.recovery import Recovered
from core.rules.acting import Actor, Occasion
from core.rules.matching import RuleIndex
from core.rules.memory import drain_actor, load_actor
from core.task import StateRecord, TaskSpec
from schemas.definitions import DEFINITION, FORMAT, Pause, Rule, head_key, pause_name, version_key
from schemas.detections import Detection, VerdictReached
from schemas.envelope import key as topic_key
from schemas.envelope import subject
from schemas.outcomes import Arm, Figure, OutcomeRow, Verdict
from schemas.parts import Arms, Day, Pair, Took, decode_part, encode_part

STEP: Final = "decide.outcomes"
PARTS, RECEIPTS = "outcome.parts", "receipts"
_FORMAT_HEADER: Final = "uptake-format"
Name = tuple[str, str]


class _Receipt(msgspec.Struct):
    """What is looked at of a receipt."""

    tenant: str
    product: str
    rule: str
    status: str
    at: int
    issued_at: int | None = None


_receipt = msgspec.json.Decoder(_Receipt).decode


def outcomes_spec(catalogue: Catalogue, partitions: int, book: Book | None = None) -> TaskSpec:
    """How the tasks of `outcome.parts` are made. `book`: where their balances are added up."""
    book = book or Book("matched")
    return TaskSpec(
        role="decide",
        group="outcomes",
        topics=(PARTS, RECEIPTS),
        make=lambda partition: OutcomesTask(partition, partitions, catalogue, book),
        state_topic="state.decide.outcomes",
    )


class OutcomesTask:
    """Partition `partition` of `outcome.parts` and `receipts`. `partitions`: of `signals` too."""

    def __init__(self, partition: int, partitions: int, catalogue: Catalogue, book: Book | None = None) -> None:
        self.partition, self._partitions = partition, partitions
        self._catalogue = catalogue
        self._rules = RuleIndex(catalogue)
        self.actor = Actor(catalogue, f"{STEP}.{partition}", book=book)
        self.ledgers: dict[Name, Ledger] = {}
        self._touched: set[Name] = set()
        self._recovered = Recovered()

    # --- state ------------------------------------------------------------------------------------------------------

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one state row; the later one of a key wins."""
        self._recovered.load(key, value)

    def loaded(self) -> None:
        """Build the state from its rows."""
        for row, scope, value in self._recovered.take():
            content = decode(value)
            if not load_actor(self.actor, row, scope, content):
                tenant, product = scope
                self._ledger((tenant, product)).restore(content)

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        rows = [(key("ledger", *name), encode(self.ledgers[name].row())) for name in sorted(self._touched)]
        self._touched.clear()
        return [*drain_actor(self.actor), *rows]

    # --- work -------------------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Fold a batch of parts, or of receipts."""
        effects: list[Effect] = []
        for row, value in enumerate(batch.values):
            at = int(batch.timestamps[row])
            try:
                effects += self._receipt(value or b"") if batch.topic == RECEIPTS else self._part(value or b"", at)
            except msgspec.MsgspecError as error:
                if batch.topic == PARTS:  # receipts are looked at by others, who set them aside
                    effects.append(_dead(batch, row, str(error)))
        return effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Only records move this task."""
        return [*self.actor.forget(), self.actor.balance()]

    def wake_at(self) -> int | None:
        """Never by itself."""
        return None

    def _ledger(self, name: Name) -> Ledger:
        return self.ledgers.setdefault(name, Ledger(self._partitions))

    def _receipt(self, value: bytes) -> Iterator[Effect]:
        """Pass on how long a delivery took, where a report is to tell it."""
        found = _receipt(value)
        if found.status != "delivered" or found.issued_at is None or not self._rules.reporting(found.tenant):
            return
        took = Took(
            tenant=found.tenant,
            product=found.product,
            rule=found.rule,
            at=found.at,
            ms=max(0, found.at - found.issued_at),
        )
        yield Emit(PARTS, topic_key(found.tenant, found.product), encode_part(took))

    def _part(self, value: bytes, broker_time: int) -> Iterator[Effect]:
        part = decode_part(value)
        name = (part.tenant, part.product)
        ledger = self._ledger(name)
        self._touched.add(name)
        match part:
            case Arms():
                for end in ledger.arms(part):
                    yield from self._reports(name, end - 1, broker_time)
                    for rule in ledger.hour(end):
                        yield from self._moved(name, rule, broker_time)
            case Pair():
                if ledger.pair(part):
                    yield from self._moved(name, part.rule, broker_time)
            case Took():
                ledger.response(part)
            case Day():
                if ledger.day(part) and due(part.end):
                    ledger.wait(part)
        # Where nobody counts exposures, there is nothing to wait for.
        counts = bool(self._rules.measuring(part.tenant))
        yield from self._reports(name, ledger.complete if counts else ledger.newest, broker_time)

    def _reports(self, name: Name, upto: int, broker_time: int) -> Iterator[Effect]:
        """Tell what is due after the days that ended up to there."""
        ledger = self.ledgers[name]
        for ended in ledger.reported(upto):
            for every in due(ended.end):
                found = report(*name, every, ended, ledger, lambda n: self._rules.named(name[0], n))
                if self._rules.met_by(found):
                    yield from self._found(found, ended.act, broker_time)

    def _moved(self, name: Name, rule_name: str, broker_time: int) -> Iterator[Effect]:
        """An experiment has moved on: its verdict, its row."""
        rule = self._rules.named(name[0], rule_name)
        if rule is None or rule.outcome is None:
            return
        experiment = self.ledgers[name].experiments[rule_name]
        before = experiment.verdict
        verdict = experiment.judge(rule.outcome.alpha, rule.outcome.direction)
        yield self._row(name, rule, experiment)
        if experiment.uplift is not None:
            yield Observe("uptake_outcome_uplift", experiment.uplift, (*name, rule.id))
        if verdict is not None:
            yield from self._verdict(name, rule, experiment, before, broker_time)

    def _verdict(self, name: Name, rule: Rule, e: Experiment, before: Verdict, broker_time: int) -> Iterator[Effect]:
        measure = rule.outcome
        interval = e.interval(measure.alpha) if measure is not None else None
        if measure is None or interval is None:
            return
        tenant, product = name
        about = subject("product", product)
        # History that is read again (a rebuild, an import) tells what it shows, and stops nobody who was resumed since.
        recent = e.at >= broker_time - DAY_MS
        pauses = e.verdict == "harmful" and measure.on_harm == "pause" and recent
        found = VerdictReached(
            id=detection_id("verdict_reached", tenant, product, about, e.at, f"{rule.id}:{e.verdict}"),
            tenant=tenant,
            product=product,
            subject=about,
            at=e.at,
            rule=rule.id,
            verdict=e.verdict,
            previous=before,
            metric=_metric(rule),
            direction=measure.direction,
            command_type=rule.command.type,
            uplift=e.uplift or 0.0,
            low=interval.low,
            high=interval.high,
            treated=e.pairs or int(e.treated[0]),
            held=int(e.held[0]),
            alpha=measure.alpha,
            pauses=pauses,
            window=f"{measure.within_s}s",
            window_start=e.since,
            window_end=e.at,
        )
        yield Count("uptake_outcome_verdicts_total", 1, (rule.id, e.verdict))
        if pauses:
            yield from self._pause(tenant, rule, found)
        yield from self._found(found, True, broker_time)

    def _pause(self, tenant: str, rule: Rule, found: VerdictReached) -> Iterator[Effect]:
        """The rule stops acting for the tenant, until a person resumes it."""
        held = [
            p for p in self._catalogue.of(Pause, tenant) if p.name == pause_name("rule", rule.id) and p.tenant == tenant
        ]
        pause = Pause(
            tenant=tenant,
            name=pause_name("rule", rule.id),
            version=1 + max((p.version for p in held), default=0),
            scope="rule",
            of=rule.id,
            by="outcome",
            description=f"harmful in {found.product}: uplift {found.uplift:+.4g} ({found.low:+.4g} to {found.high:+.4g})",
        )
        value = DEFINITION.dump_json(pause)
        headers = ((_FORMAT_HEADER, str(FORMAT).encode()),)
        for place in (version_key(pause), head_key(pause)):
            yield Emit("definitions", place, value, 0, headers)

    def _found(self, found: Detection, act: bool, broker_time: int) -> Iterator[Effect]:
        yield Emit("detections", topic_key(found.tenant, found.subject), found.model_dump_json().encode())
        yield Count("uptake_detections_total", 1, (found.kind,))
        rules = self._rules.met_by(found)
        if rules:
            settings = self._catalogue.product(found.tenant, found.product)
            yield from self.actor.meet(
                rules,
                Occasion(
                    tenant=found.tenant,
                    product=found.product,
                    subject=found.subject,
                    cause=found.id,
                    at=found.at,
                    act=act,
                    facts=facts_of(found.model_dump()),
                    case=explain(found, settings, 0),
                    broker_time=broker_time,
                ),
            )
            self.actor.exposed.clear()

    def _row(self, name: Name, rule: Rule, e: Experiment) -> Emit:
        tenant, product = name
        measure = rule.outcome
        assert measure is not None
        interval, gain = e.interval(measure.alpha), e.gain()
        figure = isinstance(measure.metric, Figure)
        row = OutcomeRow(
            tenant=tenant,
            product=product,
            rule=rule.id,
            rule_version=e.version,
            command_type=rule.command.type,
            trigger=rule.trigger.kind,
            measure=measure.metric.kind,
            metric=_metric(rule),
            direction=measure.direction,
            within_s=measure.within_s,
            holdout=rule.holdout,
            at=e.at,
            since=e.since,
            treated=None if figure else _arm(e.treated),
            held=None if figure else _arm(e.held),
            pairs=e.pairs,
            uplift=e.uplift,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            alpha=measure.alpha,
            verdict=e.verdict,
            verdict_at=e.verdict_at,
            gain=gain[0] if gain else None,
            gain_low=gain[1] if gain else None,
            gain_high=gain[2] if gain else None,
            version=e.rows,
        )
        e.rows += 1
        return Emit("outcomes", f"{tenant}|{product}|{rule.id}".encode(), row.model_dump_json().encode())


def _metric(rule: Rule) -> str:
    metric = rule.outcome.metric if rule.outcome is not None else None
    return metric.metric if isinstance(metric, Figure) else "conversion"


def _arm(sums: list[float]) -> Arm:
    n, hits, value, _ = sums
    return Arm(subjects=int(n), converted=int(hits), rate=hits / n if n else None, value=value)


def _dead(batch: Batch, row: int, detail: str) -> DeadLetter:
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
