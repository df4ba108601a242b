"""METER's second task: the events topics beside the two hot ones. Rows that rules wait for become signals; only ratings are added up.

State rows: `lanes` (clocks, replays, the generations of identities), `ids` (identities, a thousand a row), `product` (how far each
product is), `ratings` (of a product). They are few beside usage, so a row is looked at by itself; what is promised is the same:
each is checked, counted once within the horizon, matched on its own fields, and nobody hears of a time before every row from before
it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import xxhash

from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from core.forgetting import KINDS, Forgetting
from core.meter import ratings, wire, words
from core.meter.clocks import AHEAD_MS, DISORDER_MS
from core.meter.following import Following, both_names
from core.meter.intern import Tenants
from core.meter.keys import partition_of
from core.meter.lanes import Lane, Standing
from core.meter.publish import TOPIC
from core.meter.ratings import Ratings
from core.meter.read import HOUR_MS, Reading
from core.meter.signals import Signals
from core.meter.source import Mark, Rows
from core.meter.task import CLOCK_MS, EARLY_MS
from core.people.asked import Asked, subjects_of
from core.people.profile import TOPICS as PEOPLE
from core.task import StateRecord
from core.workflows.aliases import ALIASED
from core.workflows.aliases import TOPIC as CONTACTS
from schemas.definitions import Product
from schemas.envelope import key
from schemas.registers import ALL, OTHERS, Clock, Patch, Registers, encode

TOPICS: Final = tuple(words.WIRES)
FEEDBACK: Final = TOPICS.index("events.feedback")
MAX_IDS: Final = 4_000_000
"""Identities remembered by a worker that owns every partition."""
OBSERVE_MS: Final = 1_000
SETTLED_MS: Final = 2_000
"""A replay that names a product is marked in every topic within that time, or not at all."""
_SEED: Final = 0x75707461
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_key = msgspec.json.Encoder().encode
_read_key = msgspec.json.Decoder(list[Any]).decode


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
        seed: int = _SEED,
    ) -> None:
        self.partition, self._partitions = partition, partitions
        self._catalogue, self._strict, self._seed = catalogue, strict, seed
        share = max(1, max_ids // partitions // len(TOPICS) // 2)  # two generations a topic
        self._lanes = [Lane(topic, share) for topic in TOPICS]
        self._asked, self._following = Asked(catalogue), Following(catalogue)
        self._signals = {x: Signals(x, catalogue, self._told if x in PEOPLE else None) for x in TOPICS}
        self._products: dict[tuple[str, str], Standing] = {}
        self._tenants = Tenants()
        self._forgotten = Forgetting(catalogue)
        self._announced = -1
        self._moved = False
        self._changed: set[tuple[str, str]] = set()
        self._ratings: dict[tuple[str, str], Ratings] = {}
        self._rated: set[tuple[str, str]] = set()
        """Products whose ratings changed since the last drain."""
        self._loaded: dict[bytes, bytes] = {}
        self._observed_at = self._ticked = 0
        self._held_back, self._known = DISORDER_MS, (-1, -1)

    # --- core.task.Task -----------------------------------------------------------------------------------------------

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one state row; the later one of a key wins."""
        if value is None:
            self._loaded.pop(key, None)
        else:
            self._loaded[key] = value

    def loaded(self) -> None:
        """Rebuild the lanes and products from their rows."""
        lanes: dict[str, Any] = {}
        ids: dict[str, dict[tuple[int, int], bytes]] = {}
        for raw, value in self._loaded.items():
            row, *rest = _read_key(raw)
            if row == "lanes":
                lanes, self._announced = _unpack(value)
            elif row == "ids":
                ids.setdefault(rest[0], {})[rest[1], rest[2]] = value
            elif row == "product":
                self._products[rest[0], rest[1]] = Standing(*_unpack(value))
            elif row == "ratings":
                self._ratings[rest[0], rest[1]] = Ratings.of(_unpack(value))
        for lane in self._lanes:
            if lane.topic in lanes:
                lane.restore(lanes[lane.topic], ids.get(lane.topic, {}))
        self._loaded.clear()

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records: list[StateRecord] = []
        if self._moved:
            records.append((_key(["lanes"]), _pack([{x.topic: x.row() for x in self._lanes}, self._announced])))
            self._moved = False
        for lane in self._lanes:
            records += [(_key(["ids", *at]), lane.content(at)) for at in sorted(lane.changed)]
            lane.changed.clear()
        for name in sorted(self._changed):
            s = self._products[name]
            row = [s.own, s.held, s.replayed, s.since, s.told, s.released]
            records.append((_key(["product", *name]), _pack(row)))
        self._changed.clear()
        records += [(_key(["ratings", *name]), _pack(self._ratings[name].row())) for name in sorted(self._rated)]
        self._rated.clear()
        return records

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Check, deduplicate and match a batch of any of the topics."""
        number = TOPICS.index(batch.topic)
        lane, effects = self._lanes[number], list[Effect]()
        decoded = wire.decode(batch.values, batch.headed, words.WIRES[batch.topic])
        accepted = self._accepted(batch, lane, decoded, effects)
        times = decoded.times[accepted]
        open_replays, marks = dict(lane.clock.replays), list[Mark]()
        clock = lane.clock.at
        touched = self._advance(batch, number, decoded, accepted.tolist(), marks)
        watch = self._signals[batch.topic].watch()
        told = batch.topic in PEOPLE and self._asked.any()
        aliases = self._aliases(batch.topic, decoded)
        if watch is not None or told or aliases:
            watched = range(len(batch)) if told else () if watch is None else watch(decoded.rows)
            kept = {int(i): decoded.rows[i] for i in watched}
            kept |= {i: decoded.rows[i] for i in aliases}
            none = np.zeros(len(accepted), np.int64)
            rows = Rows(none, times, none, none.astype(np.uint64), {}, markers=marks)
            effects += self._signals[batch.topic].match(batch, Reading(rows, [], accepted, kept), open_replays)
        effects += self._figures()
        if lane.clock.at != clock or marks:
            effects += self._announce(0)
        effects += self._tell(self._products if marks else touched)
        effects += self._measured(batch, decoded, accepted, times)
        self._moved = self._moved or len(batch) > 0
        return effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Topics that were read to their end say so; products wait no longer for replays that are not there."""
        read = {topic for topic, partition in caught_up if partition == self.partition}
        idle = [n for n, lane in enumerate(self._lanes) if lane.topic in read and not lane.clock.replaying]
        effects: list[Effect] = []
        self._ticked, at = now, now - self._disorder()
        for name, standing in self._products.items():
            if any(standing.held) and now >= standing.since + SETTLED_MS:
                for n in idle:
                    standing.release(n)
                if standing.released:
                    self._changed.add(name)
        for n in idle:
            clock = self._lanes[n].clock
            if at >= clock.at + CLOCK_MS - EARLY_MS:
                self._moved = clock.advance(at) or self._moved
        effects += self._figures()
        effects += self._announce(CLOCK_MS - EARLY_MS)
        effects += self._tell(self._changed)
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
        return self._ticked + CLOCK_MS

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _accepted(self, batch: Batch, lane: Lane, decoded: wire.Decoded, effects: list[Effect]) -> Any:
        """Positions of the good rows that are no duplicates; dead letters and counts go to `effects`."""
        good: list[int] = []
        keys: list[int] = []
        dead = forgotten = 0
        for i, row in enumerate(decoded.rows):
            if i in decoded.markers:
                continue
            bad = decoded.bad.get(i) or self._bad(batch.topic, row, int(decoded.times[i]), int(batch.timestamps[i]))
            if self._forgotten.version and self._drops(row, bad, batch, i):
                forgotten += 1
            elif bad is not None:
                dead += 1
                effects.append(_dead(batch, i, bad))
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

    def _bad(self, topic: str, row: Any, at: int, broker: int) -> wire.Bad | None:
        """Why a decoded row is a dead letter; docs/semantics.md §1, in its order."""
        found = words.problem(topic, row)
        if found is not None:
            return wire.Bad("invalid", found)
        if at < 0:
            return wire.Bad("invalid", "`occurred_at` is before 1970")
        if not row.tenant:
            return wire.Bad("invalid", "`tenant` is missing")
        if self._tenants[row.tenant] == 0:
            return wire.Bad("bad_tenant", f"{row.tenant[:80]!r} does not match [a-z0-9-]{{1,64}}")
        if at > min(broker + HOUR_MS, (1 << 42) - 2):
            return wire.Bad("too_far_ahead", f"{(at - broker) / 1000:.0f} s ahead of the broker")
        return self._undefined(row.tenant, row.product)

    def _undefined(self, tenant: str, product: str) -> wire.Bad | None:
        if not self._strict or (tenant, product) in self._products:
            return None
        defined = self._catalogue.of(Product, tenant)
        if not defined:
            return wire.Bad("unknown_tenant", f"no product of {tenant!r} is defined")
        if all(p.name != product for p in defined):
            return wire.Bad("unknown_product", f"{tenant} has no product {product!r}")
        return None

    def _told(self, event: Any) -> list[str]:
        """Subjects whose profiles somebody asks for, and the event says something about; both names of an alias that runs follow."""
        about = subjects_of(event) if self._asked.by(event.tenant) else []
        both = both_names(event) if event.type == ALIASED and self._following.by(event.tenant) else []
        return list(dict.fromkeys([*about, *both]))

    def _aliases(self, topic: str, decoded: wire.Decoded) -> list[int]:
        """Rows that say that one name is another's, where somebody has workflows."""
        if topic != CONTACTS or not self._following.any():
            return []
        return [i for i, row in enumerate(decoded.rows) if i not in decoded.markers and row.type == ALIASED]

    def _drops(self, row: Any, bad: wire.Bad | None, batch: Batch, i: int) -> bool:
        """Whether the row is about somebody who is to be forgotten."""
        if bad is not None:
            return self._forgotten.concerns(batch.rows.key(i), batch.values[i])
        names = ((kind, getattr(row, kind)) for kind in KINDS)
        return any(name and self._forgotten.holds(row.tenant, f"{kind}:{name}") for kind, name in names)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _advance(
        self, batch: Batch, number: int, decoded: wire.Decoded, accepted: list[int], marks: list[Mark]
    ) -> set[tuple[str, str]]:
        """Rows and markers in their order move the clocks of products, which are returned; markers go to `marks`."""
        touched: set[tuple[str, str]] = set()
        steps = sorted([*((i, True) for i in accepted), *((i, False) for i in decoded.markers)])
        before = 0
        for i, is_row in steps:
            broker = int(batch.timestamps[i])
            if is_row:
                before += 1
                row = decoded.rows[i]
                standing = self._standing(row.tenant, row.product, broker)
                disorder = self._catalogue.product(row.tenant, row.product).disorder_ms
                if row.type == ratings.TYPE and number == FEEDBACK:
                    self._rate(row, int(decoded.times[i]), standing)
                pace = max(0, min(int(decoded.times[i]), broker + AHEAD_MS) - disorder)
                if pace > standing.own[number]:
                    standing.own[number] = pace
                    self._changed.add((row.tenant, row.product))
                touched.add((row.tenant, row.product))
            else:
                marker = decoded.markers[i]
                marks.append((before, marker.type, marker.replay, marker.at - DISORDER_MS, marker.act, broker, []))
                self._mark(number, marker, broker)
        return touched

    def _mark(self, number: int, marker: wire.Marker, broker: int) -> None:
        lane, at = self._lanes[number], marker.at - DISORDER_MS
        lane.clock.mark(marker.type, marker.replay, marker.act, broker)
        if marker.type == "begun":
            for tenant, product in marker.products:
                known = (tenant, product) in self._products or self._tenants[tenant] == 0
                if not known and self._undefined(tenant, product) is None:
                    own, held = [max(at, 0)] * len(TOPICS), [marker.replay] * len(TOPICS)
                    self._products[tenant, product] = Standing(own, held, True, broker)
                    self._changed.add((tenant, product))
            return
        if marker.type == "progressed":
            lane.clock.advance(at)
        for name, standing in self._products.items():
            if standing.held[number] != marker.replay:
                continue
            self._changed.add(name)
            if marker.type == "progressed":
                standing.own[number] = max(standing.own[number], at)
            else:
                standing.release(number)

    def _disorder(self) -> int:
        """What idle clocks are held back by, as those of the hot topics are (`MeterTask`)."""
        known = (self._catalogue.generation, len(self._products))
        if known != self._known:
            self._known = known
            declared = [p.disorder_ms for p in self._catalogue.of(Product)]
            declared += [self._catalogue.product(*name).disorder_ms for name in self._products]
            self._held_back = min(DISORDER_MS, max(declared, default=DISORDER_MS))
        return self._held_back

    def _standing(self, tenant: str, product: str, broker: int) -> Standing:
        found = self._products.get((tenant, product))
        if found is None:
            found = Standing([0] * len(TOPICS), [""] * len(TOPICS), since=broker)
            self._products[tenant, product] = found
            self._changed.add((tenant, product))
        return found

    def _rate(self, row: Any, at: int, standing: Standing) -> None:
        """Add a rating up. What is over for it is what its own topic says: the others' clocks come as they come."""
        name = (row.tenant, row.product)
        closed = standing.mark(FEEDBACK, self._lanes[FEEDBACK])
        self._ratings.setdefault(name, Ratings()).add(at, row.rating, closed)
        self._rated.add(name)

    def _figures(self) -> Iterator[Effect]:
        """Tell DECIDE what the ratings of ends that are over come to, before it hears that they are over."""
        for name, rated in self._ratings.items():
            standing = self._products[name]
            clock = standing.clock(self._lanes)
            if not rated.due(clock):
                continue
            self._rated.add(name)
            patches = list(rated.close(clock))
            standing.told = max(standing.told, clock)
            self._changed.add(name)
            acts = self._lanes[FEEDBACK].clock.acts
            yield Emit(TOPIC, key(*name), encode(self._record(name, standing, clock, patches, acts)))

    def _record(
        self, name: tuple[str, str], standing: Standing, clock: int, patches: list[Patch], act: bool = True
    ) -> Registers:
        return Registers(
            source=OTHERS,
            partition=self.partition,
            tenant=name[0],
            product=name[1],
            names=[ALL] if patches else [],
            columns=list(ratings.COLUMNS) if patches else [],
            patches=patches,
            clock=clock,
            act=act,
            replay=standing.replayed,
        )

    def _tell(self, names: Iterable[tuple[str, str]]) -> Iterator[Effect]:
        """Tell DECIDE how far these products are, where it could not know by the partition's clock."""
        for name in sorted(names):
            standing = self._products[name]
            clock = standing.clock(self._lanes)
            known = standing.told if any(standing.held) else max(standing.told, self._announced)
            if standing.told >= 0 and not standing.released and clock < known + CLOCK_MS:
                continue
            standing.told, standing.released = max(standing.told, clock), False
            self._changed.add(name)
            yield Emit(TOPIC, key(*name), encode(self._record(name, standing, clock, [])))

    def _announce(self, at_least: int) -> Iterator[Effect]:
        """Tell everybody the partition's clock, where it has moved on so far."""
        at = min(lane.clock.at for lane in self._lanes)
        if at < 0 or at <= self._announced or at < self._announced + at_least:
            return
        self._announced, self._moved = at, True
        replaying = any(lane.clock.replaying for lane in self._lanes)
        value = encode(Clock(source=OTHERS, partition=self.partition, at=at, replaying=replaying))
        for partition in range(self._partitions):
            yield Emit(TOPIC, None, value, partition)

    def _measured(self, batch: Batch, decoded: wire.Decoded, accepted: Any, times: Any) -> Iterator[Effect]:
        yield Observe("uptake_batch_rows", len(batch), (batch.topic,))
        seen = self._lanes[TOPICS.index(batch.topic)].seen
        if seen.shortened:
            yield Count("uptake_dedupe_shortened_total", seen.shortened)
            seen.shortened = 0
        if len(accepted):
            ahead = int((times > batch.timestamps[accepted] + AHEAD_MS).sum())
            if ahead:
                yield Count("uptake_rows_ahead_total", ahead, (batch.topic,))
            i = int(accepted[batch.next_offset % len(accepted)])
            found = batch.rows.key(i)
            mine = found is not None and partition_of(found, self._partitions) == self.partition
            if found is None or not mine or not found.startswith(f"{decoded.rows[i].tenant}|".encode()):
                yield Count("uptake_key_mismatch_total", 1, (batch.topic,))


def _dead(batch: Batch, row: int, bad: wire.Bad) -> DeadLetter:
    return DeadLetter(
        batch.topic,
        batch.partition,
        int(batch.offsets[row]),
        "meter",
        bad.reason,
        bad.detail,
        batch.rows.key(row),
        batch.values[row],
        int(batch.timestamps[row]),
        batch.headed.get(row, ()),
    )
