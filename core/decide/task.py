"""DECIDE's first task: registers in; adoption and health rows, detections, commands and suppressions out.

State rows: `clocks` and `idle` (what sources say for every product, at all and outside replays), `books`, `last` and
`hours` (cool-downs, ceilings), and the rows of each product (`snapshot`). Given the same log it gives the same
detections, command ids and final rows, however the source partitions were interleaved and however the log was cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import numpy as np

from core.accounts import Book
from core.batch import Batch
from core.decide.attic import Attic
from core.decide.explain import explain, facts_of
from core.decide.packing import decode, encode, key
from core.decide.product import ProductState
from core.decide.rows import emit_adoption, emit_health
from core.decide.slots import ending
from core.decide.snapshot import Snapshot
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from core.people.asked import Asked
from core.recovery import Recovered
from core.rules.acting import Actor, Occasion
from core.rules.matching import RuleIndex
from core.rules.memory import drain_actor, load_actor
from core.task import StateRecord, TaskSpec
from schemas.definitions import Detector, Threshold
from schemas.detections import Detection, ThresholdCleared, ThresholdCrossed
from schemas.envelope import key as topic_key
from schemas.parts import Day, Pair, Part, encode_part
from schemas.registers import HOT, TOLD_MS, WINDOWS, Clock, Registers, Signal
from schemas.registers import decode as decode_register

STEP = "decide.registers"
D = TypeVar("D", Threshold, Detector)
_TOLD_ROWS, _TOLD_ENDS = 64, 32
"""After how many rows, and ends judged by one, something is told of a step at the latest."""


def registers_spec(
    catalogue: Catalogue,
    partitions: int,
    book: Book | None = None,
    sources: Sequence[str] = HOT,
    attic: Attic | None = None,
) -> TaskSpec:
    """How the tasks of `meter.registers` are made. `book`: where their balances are added up. `sources`: who is waited for.
    `attic`: where figures wait for them.
    """
    book, attic = book or Book("matched"), attic or Attic()
    return TaskSpec(
        role="decide",
        group="registers",
        topics=("meter.registers",),
        make=lambda partition: RegistersTask(partition, partitions, catalogue, book, sources, attic=attic),
        state_topic="state.decide.registers",
    )


class RegistersTask:
    """Partition `partition` of `meter.registers`. `partitions`: of each source topic, and of this one. `sources`: those whose clocks
    are waited for, the first of `schemas.registers.SOURCES`. `tables`: whether rows of adoption and health are published.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        catalogue: Catalogue,
        book: Book | None = None,
        sources: Sequence[str] = HOT,
        tables: bool = True,
        attic: Attic | None = None,
    ) -> None:
        self._attic = attic or Attic()
        self.partition, self.partitions, self._tables = partition, partitions, tables
        self._catalogue, self._sources = catalogue, sources
        self._clocks = np.full(len(sources) * partitions, -1, np.int64)
        self._idle = self._clocks.copy()
        self._products: dict[tuple[str, str], Snapshot] = {}
        self._rules, self._asked = RuleIndex(catalogue), Asked(catalogue)
        self.actor = Actor(catalogue, f"{STEP}.{partition}", book=book)
        self._touched: set[tuple[str, str]] = set()
        self._clocks_moved = False
        self._told: dict[tuple[str, str], int] = {}
        """Event time of products as the partitions of `signals` were told it last."""
        self._recovered = Recovered()

    # --- recovery ---------------------------------------------------------------------------------------------------

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one state row; the later one of a key wins."""
        self._recovered.load(key, value)

    def loaded(self) -> None:
        """Rebuild the products from their rows."""
        products: dict[tuple[str, str], list[tuple[list[Any], Any]]] = defaultdict(list)
        for row, rest, value in self._recovered.take():
            content = decode(value)
            if row == "clocks":
                self._clocks[: len(content)] = content  # an older version knew fewer sources
            elif row == "idle":
                self._idle[: len(content)] = content
            elif not load_actor(self.actor, row, rest, content):
                tenant, product, *more = rest
                products[tenant, product].append(([row, *more], content))
        for (tenant, product), rows in products.items():
            self._product(tenant, product).restore(rows)

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records: list[StateRecord] = []
        if self._clocks_moved:
            records.append((key("clocks"), encode(self._clocks.tolist())))
            records.append((key("idle"), encode(self._idle.tolist())))
            self._clocks_moved = False
        for name in sorted(self._touched):
            records += self._products[name].drain()
        self._touched.clear()
        records += drain_actor(self.actor)
        return records

    def let_go(self) -> None:
        """Instead of `drain`, where nobody writes checkpoints: what waits to be written goes, and history that no correction needs."""
        for name in self._touched:
            self._products[name].state.let_go()
        self._touched.clear()
        drain_actor(self.actor)

    # --- work -------------------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterator[Effect]:
        """Fold a batch of registers and clocks; what is published for one table key is the newest of the batch."""
        judged: dict[str, int] = defaultdict(int)
        worked: set[tuple[str, str]] = set()
        for row, value in enumerate(batch.values):
            try:
                record = decode_register(value or b"")
                self._valid(record)
            except (msgspec.MsgspecError, ValueError) as error:
                yield self._dead(batch, row, str(error))
                continue
            at = int(batch.timestamps[row])
            match record:
                case Clock():
                    if self._take_clock(record):
                        for name in list(self._products):
                            yield from self._judge(name, at, judged, worked)
                case Registers():
                    name = (record.tenant, record.product)
                    expired = self._configured(name).take(record, self._clocks, self._idle, at)
                    worked.add(name)
                    if expired:
                        yield Count("uptake_late_rows_total", expired, ("meter.registers", "expired"))
                    yield from self._judge(name, at, judged, worked)
            if row % _TOLD_ROWS == _TOLD_ROWS - 1:
                yield from self._counted(judged)
        for name in sorted(worked):
            yield from self._rows(name)
        self._touched |= worked
        yield from self._counted(judged)

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Only records move this task's time; subjects that are to be forgotten are."""
        behind_ms = max((found.state.behind_ms for found in self._products.values()), default=0)
        behind = Observe("uptake_judging_behind_seconds", behind_ms / 1000, (str(self.partition),))
        waiting = [
            Observe("uptake_judging_waiting_bytes", self._attic.held, ("memory",)),
            Observe("uptake_judging_waiting_bytes", self._attic.stored, ("disk",)),
        ]
        return [*self.actor.forget(), self.actor.balance(), behind, *waiting]

    def wake_at(self) -> int | None:
        """Never by itself."""
        return None

    def product(self, tenant: str, product: str) -> ProductState | None:
        """The product as it stands, for whoever reads a recovered task; None for one that was never seen here."""
        return self._configured((tenant, product)) if (tenant, product) in self._products else None

    # --- parts ------------------------------------------------------------------------------------------------------

    def _valid(self, record: Registers | Clock) -> None:
        if record.source not in self._sources or not 0 <= record.partition < self.partitions:
            raise ValueError(f"no source {record.source}/{record.partition} among {self.partitions} partitions")
        if isinstance(record, Registers) and any(p.window not in WINDOWS or not p.columns for p in record.patches):
            raise ValueError("a patch of an unknown window, or without columns")

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

    def _take_clock(self, record: Clock) -> bool:
        source = record.partition + self._sources.index(record.source) * self.partitions
        moved = False
        for clocks in (self._clocks,) if record.replaying else (self._clocks, self._idle):
            if record.at > clocks[source]:
                clocks[source] = record.at
                self._clocks_moved = moved = True
        return moved

    def _product(self, tenant: str, product: str) -> Snapshot:
        found = self._products.get((tenant, product))
        if found is None:
            found = self._products[tenant, product] = Snapshot(
                ProductState(tenant, product, self.partitions, len(self._sources), self._attic)
            )
            found.state.adoption.tables = self._tables
        return found

    def _configured(self, name: tuple[str, str]) -> ProductState:
        """The product, with the definitions that are in force now."""
        state = self._product(*name).state
        if state.generation != self._catalogue.generation:
            tenant, product = name
            state.configure(
                self._catalogue.product(tenant, product),
                self._named(Threshold, tenant, product),
                self._catalogue.generation,
                self._rules.scheduled(tenant, product),
                self._named(Detector, tenant, product),
                self._rules.figured,
                self._rules.reporting(tenant),
                self._rules.minding,
            )
        return state

    def _named(self, kind: type[D], tenant: str, product: str) -> list[D]:
        """The product's definitions of this kind in order of name; a tenant's own hides everybody's of that name."""
        mine = [d for d in self._catalogue.of(kind, tenant) if d.product in (None, product)]
        by_name = {d.name: d for d in sorted(mine, key=lambda d: d.tenant == tenant)}
        return [by_name[n] for n in sorted(by_name)]

    def _judge(
        self,
        name: tuple[str, str],
        at: int,
        judged: dict[str, int],
        worked: set[tuple[str, str]],
    ) -> Iterator[Effect]:
        """Judge what the record that arrived `at` (broker time) has completed: mostly nothing, and days where a source had lagged."""
        state = self._configured(name)
        for number, (end, act, found) in enumerate(state.judge(self._clocks, self._idle, at)):
            worked.add(name)
            for window in ending(end):
                judged[window] += 1
            for detection, active in found:
                yield from self._found(state, detection, active, act, at)
            if number % _TOLD_ENDS == _TOLD_ENDS - 1:
                yield from self._counted(judged)
        yield from self._parts(state, at)
        yield from self._revised(state, at)
        yield from self._tell(state)

    def _counted(self, judged: dict[str, int]) -> list[Effect]:
        counts: list[Effect] = [Count("uptake_ends_judged_total", n, (window,)) for window, n in judged.items()]
        judged.clear()
        return counts

    def _revised(self, state: ProductState, at: int) -> list[Effect]:
        """Commands whose findings late data have corrected."""
        given = set(self.actor.given)
        self.actor.given.clear()
        effects: list[Effect] = []
        for one in state.revisions.settle(given):
            found = one.corrected or one.found
            threshold = self._threshold(state, found)
            said = "would be found all the same" if one.stands else "would not have been found"
            case = explain(found, state.cfg, one.active, threshold)
            occasion = Occasion(
                tenant=found.tenant,
                product=found.product,
                subject=found.subject,
                cause=found.id,
                at=found.at,
                act=True,
                facts=facts_of(found.model_dump(), one.active),
                case=replace(case, reason=f"Late data changed this; with them it {said}. {case.reason}"),
                broker_time=at,
            )
            for rule in (self._rules.named(found.tenant, name) for name in one.rules):
                if rule is not None:
                    effects += self.actor.revise(rule, occasion, one.stands)
        return effects

    def _threshold(self, state: ProductState, found: Detection) -> Threshold | None:
        if not isinstance(found, (ThresholdCrossed, ThresholdCleared)):
            return None
        return next((t for t in state.thresholds[found.window] if t.name == found.threshold), None)

    def _parts(self, state: ProductState, at: int) -> list[Effect]:
        """What is told about outcomes: comparisons that are over, days that have ended."""
        commanded = {(cause, exposed.rule.name) for exposed, cause in self.actor.exposed}
        self.actor.exposed.clear()
        parts: list[Part] = [
            Pair(
                tenant=state.tenant,
                product=state.name,
                end=t.due,
                rule=t.rule,
                signature=t.signature,
                version=t.version,
                subject=t.subject,
                before=t.before,
                after=t.after,
            )
            for t in state.trials.settle(commanded)
            if t.after is not None
        ]
        parts += [
            Day(tenant=state.tenant, product=state.name, end=end, act=act, broker_time=at, figures=figures)
            for end, act, figures in state.days
        ]
        state.days.clear()
        place = topic_key(state.tenant, state.name)
        return [Emit("outcome.parts", place, encode_part(part)) for part in parts]

    def _tell(self, state: ProductState) -> list[Effect]:
        """Tell `signals` how far the product's event time is, where rules remember what subjects did.

        Whoever reads it there has read every row before it: METER sent those with or before the registers that said so.
        """
        name = (state.tenant, state.name)
        asked = self._rules.remembering(state.tenant) or self._asked.by(state.tenant)
        asked = asked or self._rules.measuring(state.tenant)
        at = state.judged // TOLD_MS * TOLD_MS
        if at <= self._told.get(name, 0) or not asked:
            return []
        self._told[name] = at
        clock = Signal(
            tenant=state.tenant,
            product=state.name,
            subject="",
            kind="clock",
            cause="",
            rules=[],
            at=at,
            data={},
        )
        value = msgspec.json.encode(clock)
        return [Emit("signals", None, value, partition) for partition in range(self.partitions)]

    def _found(self, state: ProductState, found: Detection, active: int, act: bool, broker_time: int) -> list[Effect]:
        if not act:
            found = found.model_copy(update={"act": False})
        effects: list[Effect] = [
            Emit("detections", topic_key(found.tenant, found.subject), found.model_dump_json().encode()),
            Count("uptake_detections_total", 1, (found.kind,)),
        ]
        rules = self._rules.met_by(found)
        if not rules:
            return effects
        threshold = self._threshold(state, found)
        occasion = Occasion(
            tenant=found.tenant,
            product=found.product,
            subject=found.subject,
            cause=found.id,
            at=found.at,
            act=act,
            facts=facts_of(found.model_dump(), active),
            case=explain(found, state.cfg, active, threshold),
            broker_time=broker_time,
        )
        return effects + self.actor.meet(rules, occasion)

    def _rows(self, name: tuple[str, str]) -> list[Effect]:
        state = self._products[name].state
        if not self._tables:
            state.vitals.scores = {}
            list(state.adoption.flush(state.cfg))
            list(state.vitals.flush())
            return []
        effects: list[Effect] = []
        for row in state.adoption.flush(state.cfg):
            effects.append(emit_adoption(row))
            if row.window == state.cfg.stage_window and row.adoption_rate is not None:
                labels = (row.tenant, row.product, row.feature)
                effects.append(Observe("uptake_adoption_rate", row.adoption_rate, labels))
                effects.append(Observe("uptake_adoption_users", row.users, labels))
        for health in state.vitals.flush():
            effects.append(emit_health(health, state.cfg.health_window))
            if health.score is not None:
                effects.append(Observe("uptake_health_score", health.score, (health.tenant, health.product)))
        for component, score in state.vitals.scores.items():
            effects.append(Observe("uptake_health_component", score, (*name, component)))
        state.vitals.scores = {}
        return effects
