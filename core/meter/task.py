"""The METER task: both hot topics of one partition, behind `core.task.Task`."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from core.batch import Batch, Int64s
from core.definitions import Catalogue
from core.effects import Count, Effect, Observe
from core.forgetting import Forgetting
from core.meter import publish
from core.meter.asked import Asked, Wanted
from core.meter.checkpoints import Checkpoints
from core.meter.checks import undefined
from core.meter.forget import Forgetter
from core.meter.identities import SEED
from core.meter.idle import CLOCK_MS, EARLY_MS, HeldBack
from core.meter.keys import partition_of
from core.meter.levels import LEVELS
from core.meter.measures import measured
from core.meter.performance import Performance
from core.meter.products import Settings
from core.meter.profiles import Profile
from core.meter.read import Reader, Reading
from core.meter.read_performance import PerformanceReader
from core.meter.read_usage import UsageReader
from core.meter.signals import Signals
from core.meter.source import Rows, Source
from core.meter.usage import Usage
from core.meter.windows import Closed
from core.predict.watch import PREFIX, Predictions
from core.task import StateRecord

USAGE: Final = "events.usage"
PERFORMANCE: Final = "events.performance"
TOPICS: Final = (USAGE, PERFORMANCE)
MAX_IDS: Final = 32_000_000
"""Identities remembered by a worker that owns every partition."""
MAX_ROWS: Final = 1 << 17
"""Rows folded at once."""
OBSERVE_MS: Final = 1_000
REVISE_MS: Final = 2_000


class MeterTask:
    """One partition of the events topics.

    `strict`: rows of products that nobody defined are dead letters. `max_ids`: identities remembered by all `partitions`
    together; a task takes its share. `asked`: by topic, the figures that are told; absent: all. `corrected`: topics of which
    somebody asks what late rows change.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        catalogue: Catalogue,
        *,
        strict: bool = False,
        max_ids: int = MAX_IDS,
        seed: int = SEED,
        asked: Mapping[str, Wanted] | None = None,
        corrected: Container[str] = TOPICS,
    ) -> None:
        self.partition = partition
        self._partitions = partitions
        self._catalogue = catalogue
        self._strict = strict
        share = max(1, max_ids // partitions // len(TOPICS) // 2)  # two generations a topic
        self.usage = Usage(USAGE, partition, share)
        self.performance = Performance(PERFORMANCE, partition, share)
        self._sources: dict[str, Source] = {USAGE: self.usage, PERFORMANCE: self.performance}
        if asked is not None:
            for topic, source in self._sources.items():
                source.asked = Asked(asked.get(topic, {}), topic in corrected)
        self._readers: dict[str, Reader] = {
            USAGE: UsageReader(self.usage, self._settings, seed),
            PERFORMANCE: PerformanceReader(self.performance, self._settings, seed),
        }
        self._signals = {topic: Signals(topic, catalogue) for topic in TOPICS}
        self._forgotten = Forgetting(catalogue)
        self._forgetter = Forgetter(self.usage, self._forgotten)
        self.predictions = Predictions(self.usage, catalogue, partition)
        self._checkpoints = Checkpoints(self._sources)
        self._told: dict[str, dict[int, int]] = {topic: {} for topic in TOPICS}
        """By product, its watermark as it was published last."""
        self._revised_at = 0
        self._observed_at = 0
        self._ticked = 0
        self._held_back = HeldBack(catalogue)

    # --- core.task.Task -----------------------------------------------------------------------------------------------

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the state topic."""
        if key.startswith(PREFIX):
            self.predictions.load(key, value)
        else:
            self._checkpoints.load(key, value)

    def loaded(self) -> None:
        """Recovery is over. Raises `StateLost` where the state topic has holes."""
        self._checkpoints.loaded()
        self.predictions.loaded()

    def let_go(self) -> None:
        """Instead of `drain`, where nobody writes checkpoints: what waits to be written goes."""
        self._checkpoints.let_go()

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Fold a batch of either topic."""
        if len(batch) <= MAX_ROWS:
            return self._step(batch)
        return [effect for part in _split(batch) for effect in self._step(part)]

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Idle clocks move, late versions of open grace leave, the forgotten are erased, gauges are set."""
        effects = list(self._forget())
        self._ticked, held_back = now, self._disorder()
        read = {topic for topic, partition in caught_up if partition == self.partition}
        for topic, source in self._sources.items():
            if topic not in read:
                continue
            at, since = now - held_back, source.clock.announced
            if not source.clock.replaying and at >= since + CLOCK_MS - EARLY_MS and at > source.clock.at:
                closed = source.advance(at)
                self._checkpoints.note("clock", topic, at)
                effects.extend(self._publish(source, closed, source.windows))
                effects.extend(self._tell_clock(source))
                if source is self.usage:
                    effects.extend(self.predictions.judge())
            if now >= self._revised_at + REVISE_MS:
                if dirty := source.dirty():
                    effects.extend(self._publish(source, source.revise(), ()))
                    self._checkpoints.note("revise", topic, source.revised(dirty))
        if now >= self._revised_at + REVISE_MS:
            self._revised_at = now
        if now >= self._observed_at + OBSERVE_MS:
            self._observed_at = now
            effects.extend(self._observe())
        return effects

    def wake_at(self) -> int | None:
        """For the next word of idle clocks."""
        return (self._ticked // CLOCK_MS + 1) * CLOCK_MS

    def drain(self) -> list[StateRecord]:
        """What changed since the last drain."""
        return self._checkpoints.drain() + self.predictions.drain()

    # --- reading the state --------------------------------------------------------------------------------------------

    def members(self, tenant: str, product: str, feature: str | None, end: int, days: int = 7) -> list[str]:
        """Users of the feature (None: of the product) in this partition, in the `days` days up to `end`, sorted."""
        found = self.usage.members(tenant, product, feature, end, days)
        return [user for user in found if user and not self._forgotten.holds(tenant, f"user:{user}")]

    def non_adopters(self, tenant: str, product: str, feature: str, end: int, days: int = 7) -> list[str]:
        """Active users of the product who did not use the feature in that time, sorted."""
        adopters = set(self.members(tenant, product, feature, end, days))
        return [user for user in self.members(tenant, product, None, end, days) if user not in adopters]

    def profile(self, tenant: str, product: str, user: str) -> Profile | None:
        """First and last event, frequency, active days and what led to the first use; None for one who was not seen here."""
        return None if self._forgotten.holds(tenant, f"user:{user}") else self.usage.profile(tenant, product, user)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _disorder(self) -> int:
        """What idle clocks are held back by."""
        sources = self._sources.values()
        seen = ((group.tenant, group.product) for source in sources for group in source.groups[1:])
        return self._held_back.ms(sum(len(source.groups) for source in sources), seen)

    def _forget(self) -> Iterator[Effect]:
        """Erase whom the definitions say to forget since the last look; older state goes with a new base."""
        for what in self._forgetter.sweep():
            self._checkpoints.note("forget", USAGE, list(what))
            self._checkpoints.renew()
            self.predictions.forget(self._forgotten.holds)
            yield Count("uptake_forgotten_total", 1, ("meter",))

    def _step(self, batch: Batch) -> list[Effect]:
        source = self._sources[batch.topic]
        signals = self._signals[batch.topic]
        effects = list(self._forget())
        known = len(self.usage.users.names)
        reading = self._readers[batch.topic].read(batch, self._catalogue.generation, signals.watch())
        if self._forgotten.version:
            reading = self._forgetter.drop(reading, batch, known)
        effects += reading.effects
        rows = reading.rows
        open_replays = dict(source.clock.replays)
        if len(batch):  # even rows that are all duplicates move the seen clock
            came: list[Int64s] = []
            for part in self.predictions.parts(rows) if source is self.usage else (rows,):
                effects.extend(self._fold(source, part))
                came.append(source.came)
                if source is self.usage:
                    effects.extend(self.predictions.judge())
            effects.extend(signals.match(batch, reading, open_replays, np.concatenate(came)))
        effects.extend(self._counts(batch, source, reading))
        return effects

    def _fold(self, source: Source, rows: Rows) -> Iterator[Effect]:
        """Fold rows, and tell what closed with them."""
        clock, replays = source.clock.at, dict(source.clock.replays)
        closed = source.fold(rows)
        self._checkpoints.note("rows", source.topic, rows)
        moved = source.clock.at != clock
        groups = source.windows if moved or rows.markers else dict.fromkeys(rows.group.tolist())
        yield from self._publish(source, closed, groups)
        if moved or replays != source.clock.replays:
            yield from self._tell_clock(source)

    def _publish(self, source: Source, closed: Sequence[tuple[int, Closed]], moved: Iterable[int]) -> Iterator[Effect]:
        """Patches by product, and the watermarks of the products that moved on by a step."""
        by_group: dict[int, list[Closed]] = {}
        for group, end in closed:
            by_group.setdefault(group, []).append(end)
        told = self._told[source.topic]
        for group in moved:
            if source.watermark_of(group) // LEVELS[0].step > told.get(group, -1) // LEVELS[0].step:
                by_group.setdefault(group, [])
        for group, figures in by_group.items():
            before, clock = told.get(group, 0), source.watermark_of(group)
            told[group] = clock
            quiet = [c for c in figures if c.end < source.clock.quiet]
            if quiet:
                figures = [c for c in figures if c.end >= source.clock.quiet]
                yield from publish.registers(source, group, quiet, before, before if figures else clock, False)
                if not figures:
                    continue
            yield from publish.registers(source, group, figures, before, clock, True)

    def _tell_clock(self, source: Source) -> Iterator[Effect]:
        if source.clock.at < 0:
            return
        source.clock.announced = source.clock.at
        yield from publish.clocks(source, self._partitions)

    def _counts(self, batch: Batch, source: Source, reading: Reading) -> Iterator[Effect]:
        for kind in ("late", "expired"):
            n = getattr(source, kind)
            if n:
                yield Count("uptake_late_rows_total", n, (batch.topic, kind))
                setattr(source, kind, 0)
        rows, accepted = reading.rows, reading.accepted

        def keyed(n: int) -> bool:
            return self._keyed(batch.rows.key(int(accepted[n])), source, rows, n)

        yield from measured(batch, source.seen, accepted, rows.time, keyed)

    def _keyed(self, key: bytes | None, source: Source, rows: Rows, row: int) -> bool:
        """Whether a sampled row's key is its own, and belongs to this partition."""
        if key is None or partition_of(key, self._partitions) != self.partition:
            return False
        tenant = source.groups[int(rows.group[row])].tenant
        if isinstance(source, Usage):
            return key == f"{tenant}|{source.users.names[int(rows.columns['user'][row])]}".encode()
        # a request may be keyed by its service or by its feature, and the fold keeps one of them
        return key.startswith(f"{tenant}|".encode())

    def _observe(self) -> Iterator[Effect]:
        label = str(self.partition)
        for topic, source in self._sources.items():
            marks = [source.watermark_of(g) for g in source.windows] or [source.clock.at]
            if min(marks) > 0:
                yield Observe("uptake_watermark_seconds", min(marks) / 1000, (topic, label))
        yield Observe("uptake_dedupe_ids", sum(len(s.seen) for s in self._sources.values()), (label,))
        yield Observe("uptake_users", len(self.usage.users) - 1, (label,))

    def _settings(self, tenant: str, product: str) -> Settings:
        found = self._catalogue.product(tenant, product)
        refused = undefined(self._catalogue, tenant, product) if self._strict else None
        return Settings(refused, found.disorder_ms, found.grace_ms, found.apdex_t_ms)


def _split(batch: Batch) -> Iterator[Batch]:
    """A batch in parts of at most `MAX_ROWS` rows."""
    for start in range(0, len(batch), MAX_ROWS):
        stop = min(start + MAX_ROWS, len(batch))
        yield Batch(
            topic=batch.topic,
            partition=batch.partition,
            values=batch.values[start:stop],
            offsets=batch.offsets[start:stop],
            timestamps=batch.timestamps[start:stop],
            next_offset=batch.next_offset,
            rows=_Shifted(batch, start),
            headed={i - start: h for i, h in batch.headed.items() if start <= i < stop},
            lag=batch.lag,
            clocks=_between(batch.clocks, start, stop),
        )


def _between(clocks: tuple[Int64s, Int64s] | None, start: int, stop: int) -> tuple[Int64s, Int64s] | None:
    """What was told before the rows `start` … `stop - 1`."""
    if clocks is None:
        return None
    places, at = clocks
    mine = (places >= start) & (places < stop)
    return places[mine] - start, at[mine]


class _Shifted:
    """Rows of a part of a batch."""

    def __init__(self, batch: Batch, start: int) -> None:
        self._batch = batch
        self._start = start

    def key(self, row: int) -> bytes | None:
        """The row's Kafka key."""
        return self._batch.rows.key(row + self._start)
