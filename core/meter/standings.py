"""Standings: how far each product is in the topics beside the hot ones, by what its rows and the lanes' markers say.

A product's clock is the smallest of what its lanes say, so whoever hears it has been sent every row before it, whichever of the topics
it came by. As with the hot topics, a product that begins with a replay begins at the replay's time and not at the clock: in each lane
it is held there until the replay has ended in that lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.meter.lanes import Lane

Name = tuple[str, str]
"""tenant, product."""
SETTLED_MS: Final = 2_000
"""A replay that names a product is marked in every topic within that time, or not at all."""


@dataclass(slots=True)
class Standing:
    """How far one product is, by lane."""

    own: list[int]
    """What its rows, and replays that it began with, say."""
    held: list[str]
    """The replay that it waits for the end of; empty: none."""
    replayed: bool = False
    """Whether it began with a replay."""
    since: int = 0
    """Broker time of its beginning."""
    told: int = -1
    """What was published last; -1: nothing yet."""
    released: bool = False
    """It waited and does no more, and that is not published yet."""

    def clock(self, lanes: Sequence[Lane]) -> int:
        """No row of the product that occurred before will come, as far as every lane knows."""
        return min(self.mark(n, lane) for n, lane in enumerate(lanes))

    def mark(self, number: int, lane: Lane) -> int:
        """As far as this lane knows."""
        own = self.own[number]
        return own if self.held[number] else max(own, lane.clock.at)

    def release(self, lane: int) -> None:
        """Wait for no replay in this lane any more."""
        if self.held[lane]:
            self.held[lane] = ""
            self.released = True

    def row(self) -> list[Any]:
        """As plain values: `Standing(*row)` is the same one."""
        return [self.own, self.held, self.replayed, self.since, self.told, self.released]


class Standings(dict[Name, Standing]):
    """Of every product that was heard of in one partition of the topics."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self._lanes = lanes
        self.changed: set[Name] = set()
        """Products whose state rows differ from what was drained."""

    def begin(self, name: Name, broker: int, at: int = 0, replay: str = "") -> Standing:
        """A product appears: with a row, or with a replay that begins `at`."""
        self.changed.add(name)
        made = self[name] = Standing([at] * self._lanes, [replay] * self._lanes, bool(replay), broker)
        return made

    def rise(self, name: Name, lane: int, pace: int) -> None:
        """A row of the product says that none from before `pace` will come by this lane."""
        standing = self[name]
        if pace > standing.own[lane]:
            standing.own[lane] = pace
            self.changed.add(name)

    def progress(self, lane: int, replay: str, at: int) -> None:
        """A replay is as far as `at` in this lane: so are the products that began with it."""
        for standing in self._held(lane, replay):
            standing.own[lane] = max(standing.own[lane], at)

    def end(self, lane: int, replay: str) -> None:
        """A replay ended in this lane: the products that began with it wait no longer there."""
        for standing in self._held(lane, replay):
            standing.release(lane)

    def settle(self, idle: Sequence[int], now: int) -> None:
        """Products wait no longer for replays that are not there: lanes that were read to their end had time to begin them."""
        for name, standing in self.items():
            if any(standing.held) and now >= standing.since + SETTLED_MS:
                for lane in idle:
                    standing.release(lane)
                if standing.released:
                    self.changed.add(name)

    def _held(self, lane: int, replay: str) -> Iterable[Standing]:
        for name, standing in self.items():
            if standing.held[lane] == replay:
                self.changed.add(name)
                yield standing
