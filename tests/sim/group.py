"""The group coordinator: members join, send heartbeats, are thrown out, and share the partitions in ranges."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from tests.sim.loop import SimLoop

SWEEP_S = 0.1


class Expelled(Exception):
    """The group does not know the member (any more)."""


@dataclass(slots=True)
class Member:
    """A member as the coordinator sees it."""

    heard: float
    joining: asyncio.Future[tuple[int, list[int]]] | None = None


class Group:
    """The one group of a simulation. Eager: everybody gives everything back before anything is shared out."""

    def __init__(self, loop: SimLoop, partitions: int, session_s: float, rebalance_s: float) -> None:
        self._loop = loop
        self._partitions = partitions
        self._session_s = session_s
        self._rebalance_s = rebalance_s
        self._members: dict[str, Member] = {}
        self.generation = 0
        self.rebalances = 0
        self._preparing: float | None = None
        """Since when."""
        loop.at_broker(SWEEP_S, self._sweep)

    def join(self, member: str) -> asyncio.Future[tuple[int, list[int]]]:
        """Generation and partitions, once everybody has joined. A member that is in already makes a rebalance."""
        future: asyncio.Future[tuple[int, list[int]]] = self._loop.create_future()
        known = self._members.setdefault(member, Member(self._loop.now))
        known.joining = future
        self.rebalance()
        self._complete()
        return future

    def rebalance(self) -> None:
        """Ask everybody to join again."""
        if self._preparing is None:
            self._preparing = self._loop.now
            self.rebalances += 1

    def heartbeat(self, member: str, generation: int) -> bool:
        """Whether the member must join again. Raises `Expelled`."""
        known = self._members.get(member)
        if known is None or generation != self.generation:
            raise Expelled(member)
        known.heard = self._loop.now
        return self._preparing is not None

    def leave(self, member: str) -> None:
        """Go in peace."""
        if self._members.pop(member, None) is not None:
            self.rebalance()
            self._complete()

    def _sweep(self) -> None:
        now = self._loop.now
        late = [
            name
            for name, member in self._members.items()
            if member.joining is None
            and (
                now - member.heard > self._session_s
                or (self._preparing is not None and now - self._preparing > self._rebalance_s)
            )
        ]
        for name in late:
            del self._members[name]
            self.rebalance()
        self._complete()
        self._loop.at_broker(SWEEP_S, self._sweep)

    def _complete(self) -> None:
        members = self._members
        if self._preparing is None or not members or any(member.joining is None for member in members.values()):
            return
        self._preparing = None
        self.generation += 1
        shares = self._shares(sorted(members))
        for name, member in members.items():
            joining, member.joining, member.heard = member.joining, None, self._loop.now
            if joining is not None and not joining.done():
                joining.set_result((self.generation, shares[name]))

    def _shares(self, names: list[str]) -> dict[str, Any]:
        each, more = divmod(self._partitions, len(names))
        shares: dict[str, list[int]] = {}
        begin = 0
        for number, name in enumerate(names):
            count = each + (number < more)
            shares[name] = list(range(begin, begin + count))
            begin += count
        return shares
