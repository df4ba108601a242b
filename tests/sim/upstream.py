"""Those who write the source topics: plain, in transactions, with holes as compaction leaves them, with bytes nobody can read.

Sequences count by key what will be committed, so the fold of the log is closed form: row n of a key says n.
"""

from __future__ import annotations

from collections import Counter

from tests.sim.broker import Broker, Place
from tests.sim.loop import SimLoop
from tests.sim.scenario import Scenario
from tests.sim.schedule import Action

KEYS = (b"x", b"y", b"z")


class Upstream:
    """All producers of the source topics. Their requests never go wrong: what is in the log is the truth."""

    def __init__(self, loop: SimLoop, broker: Broker, scenario: Scenario, partitions: int, outside: bool) -> None:
        self._scenario = scenario
        self._loop = loop
        self._broker = broker
        names = [*scenario.topics, *(["in.c"] if outside else [])]
        self.places: list[Place] = [(f"p.{name}", n) for name in names for n in range(partitions)]
        for place in self.places:
            if (row := scenario.first(place[0].removeprefix("p."))) is not None:
                broker.partition(place).append([(b"m", row, ())], broker.now_ms())
        self.spoiled: Counter[tuple[str, int, int]] = Counter()
        """Topic without prefix, partition, offset of batches that cannot be read."""
        self.busy = 0
        """Transactions that are still open."""
        self._sequences: Counter[tuple[Place, bytes]] = Counter()
        self._pids = 1

    def write(self, action: Action) -> None:
        """One batch, and what belongs to it."""
        place = self.places[action.who % len(self.places)]
        partition = self._broker.partition(place)
        random, at = self._loop.random, self._broker.now_ms()
        count = max(1, action.size)
        keys = [random.choice(KEYS) for _ in range(count)]
        if action.kind == "abort":
            pid = self._next_pid()
            partition.append([(key, self._scenario.never(), ()) for key in keys], at, pid=pid, epoch=0, sequence=0)
            self._later(action.span, place, pid, commit=False)
        elif action.kind == "spoiled":
            base = partition.append([(key, self._scenario.never(), ()) for key in keys], at, spoiled=True)
            self.spoiled[place[0].removeprefix("p."), place[1], base] += 1
        elif action.kind in ("commit", "hang"):
            pid = self._next_pid()
            partition.append([(key, self._row(place, key), ()) for key in keys], at, pid=pid, epoch=0, sequence=0)
            self._later(action.span if action.kind == "hang" else 0.0, place, pid, commit=True)
        else:
            gaps = [int(random.expovariate(0.5)) for _ in keys[1:]] if action.kind == "holes" else ()
            partition.append([(key, self._row(place, key), ()) for key in keys], at, gaps=gaps)
            if action.kind == "holes":
                partition.skip(int(random.expovariate(0.5)))

    def _row(self, place: Place, key: bytes) -> bytes:
        self._sequences[place, key] += 1
        topic, random = place[0].removeprefix("p."), self._loop.random
        return self._scenario.row(topic, place[1], key, self._sequences[place, key], self._broker.now_ms(), random)

    def _next_pid(self) -> int:
        self._pids += 1
        return self._pids

    def _later(self, span: float, place: Place, pid: int, *, commit: bool) -> None:
        self.busy += 1

        def end() -> None:
            self.busy -= 1
            self._broker.partition(place).mark(pid, 0, self._broker.now_ms(), commit=commit)

        if span:
            self._loop.at_broker(span, end)
        else:
            end()
