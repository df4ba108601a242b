"""The in-memory broker: topics, the transaction coordinator, offsets of groups. Every method is one instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.errors import InvalidProducerEpoch, InvalidTxnState, ProducerFenced

from tests.sim.log import Headers, Partition
from tests.sim.loop import SimLoop

Place = tuple[str, int]
MARKER_S = 0.004
"""About how long a transaction's marker takes to reach one partition."""


class Concurrent(Exception):
    """The transaction before is still being ended: ask again."""


@dataclass(slots=True)
class Transaction:
    """What the coordinator knows of a transactional id."""

    pid: int
    timeout_s: float
    epoch: int = -1
    state: str = "empty"
    places: set[Place] = field(default_factory=set)
    offsets: dict[Place, int] = field(default_factory=dict)
    group: str = ""
    turn: int = 0
    committed: bool = False
    """How the last one ended."""


class Broker:
    """One cluster."""

    def __init__(self, loop: SimLoop, topics: Mapping[str, int]) -> None:
        self.loop = loop
        self.topics = {name: [Partition() for _ in range(count)] for name, count in topics.items()}
        self.transactions: dict[str, Transaction] = {}
        self.offsets: dict[tuple[str, Place], list[int]] = {}
        """Offsets committed for a group, all of them in order."""
        self.stale_until = 0.0
        """Until then a new leader may tell an end that lies behind (`Recovery` must not believe it)."""
        self.amnesia = 0
        """So many fetches are told that the log does not hold their offset, though it does."""

    def partition(self, place: Place) -> Partition:
        """Raises `KeyError` for what does not exist."""
        return self.topics[place[0]][place[1]]

    def now_ms(self) -> int:
        """Broker time."""
        return int(self.loop.wall() * 1000)

    # --- transactions -------------------------------------------------------------------------------------------------

    def init(self, name: str, timeout_s: float) -> tuple[int, int]:
        """Producer id and epoch. Fences whoever had the id; raises `Concurrent` until what he left open is ended."""
        known = self.transactions.get(name)
        if known is None:
            known = self.transactions[name] = Transaction(1000 + len(self.transactions), timeout_s)
        if known.state == "ongoing":
            known.epoch += 1
            self._end(known, commit=False)
        if known.state == "ending":
            raise Concurrent
        known.epoch += 1
        known.committed = False
        return known.pid, known.epoch

    def _of(self, name: str, epoch: int) -> Transaction:
        known = self.transactions[name]
        if epoch != known.epoch:
            raise ProducerFenced(f"{name}: epoch {epoch}, the newest is {known.epoch}")
        return known

    def add(self, name: str, epoch: int, places: Sequence[Place]) -> None:
        """Partitions that the transaction is going to write to; begins it."""
        known = self._of(name, epoch)
        if known.state == "ending":
            raise Concurrent
        if known.state == "empty":
            known.state = "ongoing"
            known.turn += 1
            turn = known.turn
            self.loop.at_broker(known.timeout_s, lambda: self._expire(known, turn))
        known.places.update(places)

    def _expire(self, known: Transaction, turn: int) -> None:
        if known.state == "ongoing" and known.turn == turn:
            known.epoch += 1
            self._end(known, commit=False)

    def produce(
        self,
        place: Place,
        rows: Sequence[tuple[bytes | None, bytes | None, Headers]],
        name: str | None,
        epoch: int,
        sequence: int,
    ) -> tuple[int, int]:
        """Append: first offset, broker time. In a transaction the coordinator is asked first whether it is on (KIP-890)."""
        if name is None:
            return self.partition(place).append(rows, self.now_ms()), self.now_ms()
        known = self.transactions[name]
        if epoch != known.epoch:
            raise InvalidProducerEpoch(f"{name}: epoch {epoch}, the newest is {known.epoch}")
        if known.state != "ongoing" or place not in known.places:
            raise InvalidTxnState(f"{name}: {place} is not part of an open transaction")
        base = self.partition(place).append(rows, self.now_ms(), pid=known.pid, epoch=epoch, sequence=sequence)
        return base, self.now_ms()

    def add_offsets(self, name: str, epoch: int, group: str, offsets: Mapping[Place, int]) -> None:
        """A group's offsets, valid with the commit."""
        self.add(name, epoch, ())
        known = self.transactions[name]
        known.group = group
        known.offsets.update(offsets)

    def end(self, name: str, epoch: int, *, commit: bool) -> None:
        """EndTxn. Asked again after it was done: done."""
        known = self._of(name, epoch)
        if known.state == "ending" or (known.state == "empty" and known.committed == commit and known.turn):
            return
        if known.state != "ongoing":
            raise InvalidTxnState(f"{name} has no open transaction")
        self._end(known, commit=commit)

    def _end(self, known: Transaction, *, commit: bool) -> None:
        known.state, known.committed = "ending", commit
        places, epoch, offsets, group = sorted(known.places), known.epoch, dict(known.offsets), known.group
        known.places.clear()
        known.offsets.clear()
        left = len(places) + 1

        def done() -> None:
            nonlocal left
            left -= 1
            if not left:
                known.state = "empty"

        def marker(place: Place) -> Callable[[], None]:
            def write() -> None:
                self.partition(place).mark(known.pid, epoch, self.now_ms(), commit=commit)
                done()

            return write

        def write_offsets() -> None:
            if commit:
                self.commit_offsets(group, offsets)
            done()

        random = self.loop.random
        for place in places:
            self.loop.at_broker(random.expovariate(1 / MARKER_S), marker(place))
        self.loop.at_broker(random.expovariate(1 / MARKER_S), write_offsets)

    # --- groups' offsets ----------------------------------------------------------------------------------------------

    def commit_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        """For lag tools."""
        for place, offset in offsets.items():
            self.offsets.setdefault((group, place), []).append(offset)

    def bounds(self, place: Place) -> tuple[int, int]:
        """First offset, and the end for those who read committed rows."""
        stable = self.partition(place).stable
        if self.loop.now < self.stale_until:
            stable = max(0, stable - 1 - int(self.loop.random.random() * 5))
        return 0, stable
