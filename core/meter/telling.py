"""Telling DECIDE how far the topics beside the hot ones are, and what ratings came to, as records of `meter.registers`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from core.effects import Emit
from core.meter import ratings
from core.meter.idle import CLOCK_MS
from core.meter.lanes import Lane
from core.meter.publish import TOPIC
from core.meter.ratings import Ratings
from core.meter.standings import Name, Standing, Standings
from schemas.envelope import key
from schemas.registers import ALL, OTHERS, Clock, Patch, Registers, encode


class Telling:
    """Of one partition, told to every partition of the registers. `ratings` is read as far as the clocks that it tells."""

    def __init__(self, partition: int, partitions: int, lanes: Sequence[Lane], standings: Standings) -> None:
        self._partition, self._partitions = partition, partitions
        self._lanes, self._standings = lanes, standings
        self.announced = -1
        """The partition's clock as it was told last."""
        self.ratings: dict[Name, Ratings] = {}
        self.rated: set[Name] = set()
        """Products whose ratings differ from what was drained."""

    def rate(self, name: Name, at: int, rating: float, lane: int) -> None:
        """Add a rating up. What is over for it is what its own topic says: the others' clocks come as they come."""
        closed = self._standings[name].mark(lane, self._lanes[lane])
        self.ratings.setdefault(name, Ratings()).add(at, rating, closed)
        self.rated.add(name)

    def figures(self, act: bool) -> Iterator[Emit]:
        """What the ratings of ends that are over come to: before anybody hears that they are over. `act`: old ones may."""
        for name, rated in self.ratings.items():
            standing = self._standings[name]
            clock = standing.clock(self._lanes)
            if not rated.due(clock):
                continue
            self.rated.add(name)
            patches = list(rated.close(clock))
            standing.told = max(standing.told, clock)
            yield self._record(name, standing, clock, patches, act)

    def products(self, names: Iterable[Name]) -> Iterator[Emit]:
        """How far these products are, where DECIDE could not know by the partition's clock."""
        for name in sorted(names):
            standing = self._standings[name]
            clock = standing.clock(self._lanes)
            known = standing.told if any(standing.held) else max(standing.told, self.announced)
            if standing.told >= 0 and not standing.released and clock < known + CLOCK_MS:
                continue
            standing.told, standing.released = max(standing.told, clock), False
            yield self._record(name, standing, clock, [], True)

    def clock(self, at_least: int) -> Iterator[Emit]:
        """The partition's clock, where it has moved on so far."""
        at = min(lane.clock.at for lane in self._lanes)
        if at < 0 or at <= self.announced or at < self.announced + at_least:
            return
        self.announced = at
        replaying = any(lane.clock.replaying for lane in self._lanes)
        value = encode(Clock(source=OTHERS, partition=self._partition, at=at, replaying=replaying))
        for partition in range(self._partitions):
            yield Emit(TOPIC, None, value, partition)

    def _record(self, name: Name, standing: Standing, clock: int, patches: list[Patch], act: bool) -> Emit:
        self._standings.changed.add(name)
        record = Registers(
            source=OTHERS,
            partition=self._partition,
            tenant=name[0],
            product=name[1],
            names=[ALL] if patches else [],
            columns=list(ratings.COLUMNS) if patches else [],
            patches=patches,
            clock=clock,
            act=act,
            replay=standing.replayed,
        )
        return Emit(TOPIC, key(*name), encode(record))
