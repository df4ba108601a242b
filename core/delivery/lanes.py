"""Lanes: one connection's waiting deliveries. A slow or dead destination fills its own lane and no other."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from core.delivery.breaker import Breaker
from schemas.definitions import Connection

Place = tuple[int, int, int, str]
"""(rank, turn of its tenant, sequence, delivery id)."""


class Lane:
    """Who goes next to one destination: what is due, urgent first, as far as breaker, concurrency and rate allow. Tenants that
    share the connection take turns.

    An entry may outlive its row: whoever takes one looks first.
    """

    def __init__(self) -> None:
        self.waiting = 0
        """Rows of this lane, in flight or not. Kept by the task."""
        self.in_flight = 0
        self.breaker = Breaker()
        self._ready: list[Place] = []
        self._parked: list[tuple[int, int, int, str, str]] = []
        self._turns: dict[tuple[int, str], int] = {}
        """(rank, tenant) → the turn of its last one that is ready."""
        self._served: dict[int, int] = {}
        """Rank → the turn that was taken last."""
        self._held: list[Place] = []
        self._held_at = -1
        self._closed_until = 0
        self._tokens = 1.0
        self._filled_at = 0

    def put(self, id_: str, *, rank: int, sequence: int, due: int, tenant: str) -> None:
        """Add a delivery that is due at this time."""
        heapq.heappush(self._parked, (due, rank, sequence, tenant, id_))

    def close_until(self, at: int) -> None:
        """The destination asked for patience: nothing goes to it before this time."""
        self._closed_until = max(self._closed_until, at)

    def hold(self, place: Place, generation: int) -> None:
        """Set one aside (its rule or tenant is paused) until the definitions change."""
        self._held.append(place)
        self._held_at = generation

    def take(self, now: int, connection: Connection | None, generation: int, free: int) -> Iterator[Place]:
        """Entries that may go now, at most `free`. Each one taken counts against the connection's rate; the caller
        says which of them are really on their way (`in_flight`). No connection: it is retired, nothing limits.
        """
        self._wake(now, generation)
        if connection is None:
            limit, rate = free, None
        else:
            limit, rate = min(free, connection.max_concurrency - self.in_flight), connection.rate_per_s
            if now < self._closed_until:
                return
            room = self.breaker.room(now)
            limit = limit if room is None else min(limit, room)
        self._refill(now, rate)
        while limit > 0 and self._ready and (rate is None or self._tokens >= 1):
            before = self.in_flight
            place = heapq.heappop(self._ready)
            self._served[place[0]] = place[1]
            yield place
            if self.in_flight > before:
                limit -= 1
                self._tokens -= 1

    def next_at(self, now: int, connection: Connection | None) -> int | None:
        """When `take` may have something at the earliest; None: not before something else happens."""
        if connection is None:
            return now if self._ready else self._parked[0][0] if self._parked else None
        opens_at = self.breaker.next_at()
        if self.in_flight >= connection.max_concurrency or opens_at is None:
            return None
        patience = max(self._closed_until, opens_at)
        if self._ready:
            rate = connection.rate_per_s
            wait = 0 if rate is None or self._tokens >= 1 else int(1_000 * (1 - self._tokens) / rate) + 1
            return max(now + wait, patience)
        return max(self._parked[0][0], patience) if self._parked else None

    def _wake(self, now: int, generation: int) -> None:
        while self._parked and self._parked[0][0] <= now:
            _, rank, sequence, tenant, id_ = heapq.heappop(self._parked)
            heapq.heappush(self._ready, (rank, self._turn(rank, tenant), sequence, id_))
        if self._held and generation != self._held_at:
            for place in self._held:
                heapq.heappush(self._ready, place)
            self._held = []

    def _turn(self, rank: int, tenant: str) -> int:
        """The next turn of the tenant: one that has waited for nothing goes beside the others' next, not behind all of theirs."""
        if not self._ready:
            self._turns.clear()
        turn = max(self._turns.get((rank, tenant), 0), self._served.get(rank, 0)) + 1
        self._turns[rank, tenant] = turn
        return turn

    def _refill(self, now: int, rate: float | None) -> None:
        """A token bucket that holds at most a second's worth, and at least one."""
        if rate is not None:
            self._tokens = min(max(1.0, rate), self._tokens + max(0, now - self._filled_at) * rate / 1_000)
        self._filled_at = now
