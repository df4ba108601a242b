"""Signals: the rows that some rule waits for. Rules are indexed by the values they require (`core.meter.interest`).

Only rows that carry a value which some rule requires, or rows of tenants with rules that require none, are looked at by a rule. The
row predicate decides in the end, on the event's own fields.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from core.batch import Batch, Int64s
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.meter.clocks import DAY_MS, Clock
from core.meter.facts import Facts, subject_of
from core.meter.interest import Among, Interest, Waiting
from core.meter.read import Reading
from core.meter.source import ToldClocks
from core.meter.watching import Watch
from core.rules.columns import Bools, Columns
from core.rules.conditions import fields, holds
from core.rules.waiting import converts_by, waits_for
from core.workflows.waits import waits_of
from schemas.definitions import ALL_TENANTS, Rule, Workflow
from schemas.envelope import key
from schemas.events import OTHERS
from schemas.registers import TOLD_MS, Signal

TOPIC: Final = "signals"
_COLUMNS: Final = ("tenant", "product", "type", "feature", "service", "attribution", "latency_ms", "status", "error")
_encode = msgspec.json.Encoder().encode


class Signals:
    """Matches rows of one topic against the event rules of the catalogue."""

    def __init__(self, topic: str, catalogue: Catalogue, told: Callable[[Any], list[str]] | None = None) -> None:
        """`told`: subjects that hear of an event whether rules wait for it or not."""
        self._topic, self._told = topic, told
        self._catalogue = catalogue
        self._generation = -1
        self._interest = Interest(())
        self._watch = Watch(self._interest)

    def watch(self) -> Watch | None:
        """What `Reader.read` keeps rows for; None while no rule waits for single events of this topic."""
        self._index()
        return self._watch if self._interest.by_value or self._interest.always else None

    def match(
        self, batch: Batch, reading: Reading, replays: Mapping[str, bool], watermarks: Int64s
    ) -> Iterator[Effect]:
        """Signals of the accepted rows, in offset order.

        `replays`: those open before the batch, and whether each may act. `watermarks`: of each row's product, when it came.
        """
        if not reading.kept:
            return
        order = np.isin(reading.accepted, np.fromiter(reading.kept, np.int64, len(reading.kept)))
        rows = np.flatnonzero(order)
        met: defaultdict[int, list[Waiting]] = defaultdict(list)
        facts = Facts(batch, reading)
        for some, among in self._candidates(reading, rows):
            picked = _Picked(reading, some)
            for waiting in among.few:
                for row in some[picked.possible(waiting)].tolist():
                    met[row].append(waiting)
            if among.deeper:
                for row in some.tolist():
                    met[row] += [w for w in among.found(facts.flat(row)) if _asks(w, reading, row)]
        told = set[int]()
        if self._told is not None:
            told = {row for row in rows.tolist() if self._told(reading.kept[int(reading.accepted[row])])}
        sent = 0
        acting = _acting(reading, replays)
        for row in sorted({*told, *(row for row, waiting in met.items() if waiting)}):
            passed = int(watermarks[row]) // TOLD_MS * TOLD_MS
            for emit in self._emit(batch, reading, row, met[row], acting(row), facts, passed):
                sent += 1
                yield emit
        if sent:
            yield Count("uptake_signals_total", sent, ("event",))

    def _index(self) -> None:
        if self._generation == self._catalogue.generation:
            return
        self._generation = self._catalogue.generation
        rules = self._catalogue.of(Rule)
        waits = [
            Waiting(r, on, r.effective_from) for r in rules if (on := waits_for(r.trigger, self._topic)) is not None
        ]
        waits += [Waiting(r, on, r.effective_from) for r in rules if (on := converts_by(r, self._topic)) is not None]
        for workflow in (*self._catalogue.of(Workflow), *self._catalogue.retired()):
            # Runs of versions before wait for named events also while this one is not in force.
            waits += [
                Waiting(workflow, on, workflow.effective_from if on is workflow.trigger else 0)
                for on in waits_of(workflow)
            ]
        self._interest = Interest(w for w in waits if w.trigger.topic == self._topic)
        self._watch = Watch(self._interest)

    def _candidates(self, reading: Reading, rows: Int64s) -> Iterator[tuple[Int64s, Among]]:
        """(positions among the accepted rows, who waits for the value that they have in some column)."""
        at = reading.accepted[rows].tolist()
        for field, rules in self._interest.by_value.items():
            by_value: defaultdict[Any, list[int]] = defaultdict(list)
            for row, i in zip(rows.tolist(), at, strict=True):
                by_value[getattr(reading.kept[i], field, None)].append(row)
            for value, some in by_value.items():
                if (among := rules.get(value)) is not None:
                    yield np.array(some, np.int64), among
        if self._interest.always:
            yield rows, Among(self._interest.always)

    def _emit(
        self,
        batch: Batch,
        reading: Reading,
        row: int,
        met: list[Waiting],
        act: bool,
        facts: Facts,
        passed: int,
    ) -> Iterator[Emit]:
        """One signal for each subject that the row's rules wait by. `passed`: what event time had passed when it came."""
        i = int(reading.accepted[row])
        event, at = reading.kept[i], int(reading.rows.time[row])
        data, flat = facts.data(row), dict(facts.flat(row))
        by_subject: defaultdict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
        """Subject → rules, workflows."""
        for waiting in met:
            about = subject_of(event, waiting.trigger.subject)
            flat["subject"] = about or ""
            if about is not None and (waiting.trigger.where is None or holds(waiting.trigger.where, flat)):
                by_subject[about][isinstance(waiting.rule, Workflow)].add(waiting.rule.name)
        for about in self._told(event) if self._told is not None else ():
            by_subject[about]
        headers = dict(batch.headed.get(i, ()))
        trace, stamp = headers.get("traceparent"), int(batch.timestamps[i])
        for about, (rules, workflows) in by_subject.items():
            signal = Signal(
                tenant=event.tenant,
                product=event.product,
                subject=about,
                kind="event",
                cause=f"{event.source}/{event.id}" if event.source else event.id,
                rules=sorted(rules),
                workflows=sorted(workflows),
                topic=self._topic if workflows or self._topic in OTHERS else None,
                at=at,
                data=data,
                traceparent=trace.decode(errors="replace") if trace else None,
                act=act or at >= stamp - DAY_MS,
                late=passed if at < passed else 0,
            )
            yield Emit(TOPIC, key(event.tenant, about), _encode(signal), stamp=stamp)


class _Picked:
    """Rows that some rules are asked about one by one. A column is made when the first of them looks at it."""

    def __init__(self, reading: Reading, rows: Int64s) -> None:
        self._events = [reading.kept[i] for i in reading.accepted[rows].tolist()]
        self._times = reading.rows.time[rows]
        self._columns: dict[str, tuple[Int64s, dict[int, Any]]] = {}

    def possible(self, waiting: Waiting) -> Bools:
        """Those that the rule's tenant and column predicate let through."""
        events, where = self._events, waiting.trigger.where
        if not events:
            return np.zeros(0, np.bool_)
        asked = fields(where).intersection(_COLUMNS) if where is not None else ()
        mask = Columns(len(events), {f: self._column(f) for f in asked if hasattr(events[0], f)}).possible(where)
        if waiting.rule.tenant != ALL_TENANTS:
            mask &= np.fromiter((e.tenant == waiting.rule.tenant for e in events), np.bool_, len(events))
        if waiting.since:
            mask &= self._times >= waiting.since
        return mask

    def _column(self, name: str) -> tuple[Int64s, dict[int, Any]]:
        found = self._columns.get(name)
        if found is None:
            codes: dict[Any, int] = {}
            numbers = [codes.setdefault((type(v), v), len(codes)) for v in (getattr(e, name) for e in self._events)]
            found = self._columns[name] = np.array(numbers, np.int64), {n: v for (_, v), n in codes.items()}
        return found


def _asks(waiting: Waiting, reading: Reading, row: int) -> bool:
    """Whether it is asked of this row at all: its tenant's, and not from before it was in force."""
    event = reading.kept[int(reading.accepted[row])]
    return waiting.rule.tenant in (ALL_TENANTS, event.tenant) and int(reading.rows.time[row]) >= waiting.since


def _acting(reading: Reading, replays: Mapping[str, bool]) -> Callable[[int], bool]:
    """Whether old data may act at each of the accepted rows."""
    clock = Clock()
    clock.replays = dict(replays)
    starts, acts = [0], [clock.acts]
    markers = reading.rows.markers
    for position, kind, replay, _, act, broker, _ in () if isinstance(markers, ToldClocks) else markers:
        if kind == "progressed":
            continue
        clock.mark(kind, replay, act, broker)
        starts.append(position)
        acts.append(clock.acts)
    return lambda row: acts[bisect_right(starts, row) - 1]
