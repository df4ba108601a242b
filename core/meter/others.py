"""METER's second task: the events topics beside the two hot ones. Rows that rules wait for become signals; only ratings are added up.

State rows: `lanes` (clocks, replays, the generations of identities), `ids` (identities, a thousand a row), `product` (how far each
product is), `ratings` (of a product). They are few beside usage, so a row is looked at by itself; what is promised is the same:
each is checked, counted once within the horizon, matched on its own fields, and nobody hears of a time before every row from before
it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import xxhash

from core.batch import Batch, Int64s
from core.decide.packing import decode as unpacked
from core.decide.packing import encode, key
from core.definitions import Catalogue
from core.effects import Count, Effect, Observe
from core.forgetting import KINDS, Forgetting
from core.meter import ratings, words
from core.meter.checks import dead_letter, refusal, undefined
from core.meter.clocks import AHEAD_MS, DISORDER_MS
from core.meter.decode import decode
from core.meter.following import Following, both_names
from core.meter.identities import SEED
from core.meter.idle import CLOCK_MS, EARLY_MS, HeldBack
from core.meter.intern import Tenants
from core.meter.keys import partition_of
from core.meter.lanes import Lane
from core.meter.measures import measured
from core.meter.ratings import Ratings
from core.meter.read import Reading
from core.meter.signals import Signals
from core.meter.source import Mark, Rows
from core.meter.standings import Name, Standing, Standings
from core.meter.telling import Telling
from core.meter.wire import Bad, Decoded, Marker
from core.people.asked import Asked, subjects_of
from core.people.profile import TOPICS as PEOPLE
from core.recovery import Recovered
from core.task import StateRecord
from core.workflows.aliases import ALIASED
from core.workflows.aliases import TOPIC as CONTACTS

TOPICS: Final = tuple(words.WIRES)
FEEDBACK: Final = TOPICS.index("events.feedback")
MAX_IDS: Final = 4_000_000
"""Identities remembered by a worker that owns every partition."""
OBSERVE_MS: Final = 1_000
_TOLD, _ROW, _MARKER = range(3)
"""What stands at a place of a batch, in this order: a clock that was recorded before it, a row, a marker."""


class OthersTask:
    """Partition `partition` of the six topics. `strict`: rows of products that nobody defined are dead letters."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        catalogue: Catalogue,
        *,
        strict: bool = False,
        max_ids: int = MAX_IDS,
        seed: int = SEED,
    ) -> None:
        self.partition, self._partitions = partition, partitions
        self._catalogue, self._strict, self._seed = catalogue, strict, seed
        share = max(1, max_ids // partitions // len(TOPICS) // 2)  # two generations a topic
        self._lanes = [Lane(topic, share) for topic in TOPICS]
        self._asked, self._following = Asked(catalogue), Following(catalogue)
        self._signals = {x: Signals(x, catalogue, self._told if x in PEOPLE else None) for x in TOPICS}
        self._standings = Standings(len(TOPICS))
        self._telling = Telling(partition, partitions, self._lanes, self._standings)
        self._tenants = Tenants()
        self._forgotten = Forgetting(catalogue)
        self._moved = False
        self._recovered = Recovered()
        self._observed_at = self._ticked = 0
        self._held_back = HeldBack(catalogue)

    # --- core.task.Task -----------------------------------------------------------------------------------------------

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one state row; the later one of a key wins."""
        self._recovered.load(key, value)

    def loaded(self) -> None:
        """Rebuild the lanes and products from their rows."""
        lanes: dict[str, Any] = {}
        ids: dict[str, dict[tuple[int, int], bytes]] = {}
        for row, rest, value in self._recovered.take():
            if row == "lanes":
                lanes, self._telling.announced = unpacked(value)
            elif row == "ids":
                ids.setdefault(rest[0], {})[rest[1], rest[2]] = value
            elif row == "product":
                self._standings[rest[0], rest[1]] = Standing(*unpacked(value))
            elif row == "ratings":
                self._telling.ratings[rest[0], rest[1]] = Ratings.of(unpacked(value))
        for lane in self._lanes:
            if lane.topic in lanes:
                lane.restore(lanes[lane.topic], ids.get(lane.topic, {}))

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records: list[StateRecord] = []
        standings, telling = self._standings, self._telling
        if self._moved:
            records.append((key("lanes"), encode([{x.topic: x.row() for x in self._lanes}, telling.announced])))
            self._moved = False
        for lane in self._lanes:
            records += [(key("ids", *at), lane.content(at)) for at in sorted(lane.changed)]
            lane.changed.clear()
        records += [(key("product", *name), encode(standings[name].row())) for name in sorted(standings.changed)]
        standings.changed.clear()
        records += [(key("ratings", *name), encode(telling.ratings[name].row())) for name in sorted(telling.rated)]
        telling.rated.clear()
        return records

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Check, deduplicate and match a batch of any of the topics."""
        number = TOPICS.index(batch.topic)
        lane, effects = self._lanes[number], list[Effect]()
        decoded = decode(batch.values, batch.headed, words.WIRES[batch.topic])
        accepted = self._accepted(batch, lane, decoded, effects)
        times = decoded.times[accepted]
        open_replays, marks = dict(lane.clock.replays), list[Mark]()
        clock = lane.clock.at
        touched, came = self._advance(batch, number, decoded, accepted.tolist(), marks)
        watch = self._signals[batch.topic].watch()
        told = batch.topic in PEOPLE and self._asked.any()
        aliases = self._aliases(batch.topic, decoded)
        if watch is not None or told or aliases:
            watched = range(len(batch)) if told else () if watch is None else watch.decoded(decoded.rows)
            kept = {int(i): decoded.rows[i] for i in watched}
            kept |= {i: decoded.rows[i] for i in aliases}
            none = np.zeros(len(accepted), np.int64)
            rows = Rows(none, times, none, none.astype(np.uint64), {}, markers=marks)
            effects += self._signals[batch.topic].match(batch, Reading(rows, [], accepted, kept), open_replays, came)
        effects += self._telling.figures(self._lanes[FEEDBACK].clock.acts)
        if lane.clock.at != clock or marks:
            effects += self._telling.clock(0)
        effects += self._telling.products(self._standings if marks else touched)
        effects += measured(batch, lane.seen, accepted, times, lambda n: self._keyed(batch, decoded, int(accepted[n])))
        self._moved = self._moved or len(batch) > 0
        return effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Topics that were read to their end say so; products wait no longer for replays that are not there."""
        read = {topic for topic, partition in caught_up if partition == self.partition}
        idle = [n for n, lane in enumerate(self._lanes) if lane.topic in read and not lane.clock.replaying]
        effects: list[Effect] = []
        self._ticked, at = now, now - self._held_back.ms(len(self._standings), self._standings)
        self._standings.settle(idle, now)
        for n in idle:
            clock = self._lanes[n].clock
            if at >= clock.at + CLOCK_MS - EARLY_MS:
                self._moved = clock.advance(at) or self._moved
        effects += self._telling.figures(self._lanes[FEEDBACK].clock.acts)
        announced = list(self._telling.clock(CLOCK_MS - EARLY_MS))
        self._moved = self._moved or bool(announced)
        effects += announced
        effects += self._telling.products(self._standings.changed)
        if now >= self._observed_at + OBSERVE_MS:
            self._observed_at = now
            label = str(self.partition)
            effects.append(Observe("uptake_dedupe_ids", sum(len(x.seen) for x in self._lanes), (f"{label}/others",)))
            for lane in self._lanes:
                if lane.clock.at > 0:
                    effects.append(Observe("uptake_watermark_seconds", lane.clock.at / 1000, (lane.topic, label)))
        return effects

    def wake_at(self) -> int | None:
        """For the next word of idle clocks."""
        return (self._ticked // CLOCK_MS + 1) * CLOCK_MS

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _accepted(self, batch: Batch, lane: Lane, decoded: Decoded, effects: list[Effect]) -> Int64s:
        """Positions of the good rows that are no duplicates; dead letters and counts go to `effects`."""
        good: list[int] = []
        keys: list[int] = []
        dead = forgotten = 0
        refused = partial(
            refusal, wire=words.WIRES[batch.topic], tenants=self._tenants, lacks=partial(words.lacks, batch.topic)
        )
        for i, row in enumerate(decoded.rows):
            if i in decoded.markers:
                continue
            bad = (
                decoded.bad.get(i)
                or refused(row, batch.values[i], int(decoded.times[i]), int(batch.timestamps[i]))
                or self._undefined(row.tenant, row.product)
            )
            if self._forgotten.version and self._drops(row, bad, batch, i):
                forgotten += 1
            elif bad is not None:
                dead += 1
                effects.append(dead_letter(batch, i, bad))
            else:
                good.append(i)
                identity = f"{row.tenant}\x1f{row.source}\x1f{row.id}"
                keys.append(xxhash.xxh3_64_intdigest(identity.encode(), self._seed) or 1)
        accepted = np.array(good, np.int64)
        capped = np.minimum(decoded.times[accepted], batch.timestamps[accepted] + AHEAD_MS)
        fresh = lane.accept(np.array(keys, np.uint64), capped)
        outcomes = {
            "accepted": int(fresh.sum()),
            "duplicate": len(good) - int(fresh.sum()),
            "dead": dead,
            "control": len(decoded.markers),
            "forgotten": forgotten,
        }
        effects.extend(Count("uptake_rows_total", n, (batch.topic, name)) for name, n in outcomes.items() if n)
        if forgotten:
            effects.append(Count("uptake_forgotten_total", forgotten, ("meter",)))
        return accepted[fresh]

    def _undefined(self, tenant: str, product: str) -> Bad | None:
        if not self._strict or (tenant, product) in self._standings:
            return None
        return undefined(self._catalogue, tenant, product)

    def _told(self, event: Any) -> list[str]:
        """Subjects whose profiles somebody asks for, and the event says something about; both names of an alias that runs follow."""
        about = subjects_of(event) if self._asked.by(event.tenant) else []
        both = both_names(event) if event.type == ALIASED and self._following.by(event.tenant) else []
        return list(dict.fromkeys([*about, *both]))

    def _aliases(self, topic: str, decoded: Decoded) -> list[int]:
        """Rows that say that one name is another's, where somebody has workflows."""
        if topic != CONTACTS or not self._following.any():
            return []
        return [i for i, row in enumerate(decoded.rows) if i not in decoded.markers and row.type == ALIASED]

    def _drops(self, row: Any, bad: Bad | None, batch: Batch, i: int) -> bool:
        """Whether the row is about somebody who is to be forgotten."""
        if bad is not None:
            return self._forgotten.concerns(batch.rows.key(i), batch.values[i])
        former = getattr(row, "former", None)  # an alias speaks of two names
        return any(
            name and self._forgotten.holds(row.tenant, f"{kind}:{name}")
            for kind in KINDS
            for name in (getattr(row, kind), former)
        )

    # --- time ---------------------------------------------------------------------------------------------------------

    def _advance(
        self, batch: Batch, number: int, decoded: Decoded, accepted: list[int], marks: list[Mark]
    ) -> tuple[set[Name], Int64s]:
        """Rows, markers and clocks between them in their order move the clocks of products: which, and how far each accepted row's
        product was in this topic when it came. Markers go to `marks`.
        """
        touched: set[Name] = set()
        came: list[int] = []
        lane = self._lanes[number]
        told = () if batch.clocks is None else zip(*(part.tolist() for part in batch.clocks), strict=True)
        steps = [*((i, _TOLD, at) for i, at in told), *((i, _ROW, 0) for i in accepted)]
        for i, kind, clock in sorted([*steps, *((i, _MARKER, 0) for i in decoded.markers)]):
            if kind == _TOLD:
                if not lane.clock.replaying:
                    lane.clock.advance(clock)
                continue
            broker = int(batch.timestamps[i])
            if kind == _ROW:
                row, at = decoded.rows[i], int(decoded.times[i])
                name = row.tenant, row.product
                if name not in self._standings:
                    self._standings.begin(name, broker)
                if row.type == ratings.TYPE and number == FEEDBACK:
                    self._telling.rate(name, at, row.rating, FEEDBACK)
                disorder = self._catalogue.product(*name).disorder_ms
                self._standings.rise(name, number, min(at, broker + AHEAD_MS) - disorder)
                came.append(self._standings[name].mark(number, lane))
                touched.add(name)
            else:
                marker = decoded.markers[i]
                marks.append((len(came), marker.type, marker.replay, marker.at - DISORDER_MS, marker.act, broker, []))
                self._mark(number, marker, broker)
        return touched, np.array(came, np.int64)

    def _mark(self, number: int, marker: Marker, broker: int) -> None:
        clock, at = self._lanes[number].clock, marker.at - DISORDER_MS
        clock.mark(marker.type, marker.replay, marker.act, broker)
        if marker.type == "begun":
            for name in marker.products:
                known = name in self._standings or self._tenants[name[0]] == 0
                if not known and self._undefined(*name) is None:
                    self._standings.begin(name, broker, max(at, 0), marker.replay)
        elif marker.type == "progressed":
            clock.advance(at)
            self._standings.progress(number, marker.replay, at)
        else:
            self._standings.end(number, marker.replay)

    def _keyed(self, batch: Batch, decoded: Decoded, i: int) -> bool:
        """Whether a row's key belongs to this partition, and to the row's tenant."""
        found = batch.rows.key(i)
        if found is None or partition_of(found, self._partitions) != self.partition:
            return False
        return found.startswith(f"{decoded.rows[i].tenant}|".encode())
