"""Accounts: every command and every delivery ends up in exactly one column; the difference is exported, and zero.

commands   = suppressed + left to other consumers + routed            (DISPATCH, in commands)
deliveries = delivered + suppressed + rejected + waiting              (DELIVER, in deliveries)
"""

from __future__ import annotations

import msgspec

from core.effects import Effect, Observe


class Dispatched(msgspec.Struct):
    """What became of the commands of one partition, since its log began."""

    commands: int = 0
    suppressed: int = 0
    left: int = 0
    """No connection wants it: left to other consumers of its topic."""
    routed: int = 0
    deliveries: int = 0
    """Made of the routed ones."""

    @property
    def difference(self) -> int:
        """Commands unaccounted for."""
        return self.commands - self.suppressed - self.left - self.routed


class Ended(msgspec.Struct):
    """What became of the deliveries of one partition, since its log began."""

    received: int = 0
    delivered: int = 0
    suppressed: int = 0
    rejected: int = 0

    def difference(self, waiting: int) -> int:
        """Deliveries unaccounted for, `waiting` being the rows there are."""
        return self.received - self.delivered - self.suppressed - self.rejected - waiting


class Book:
    """The differences of all partitions of one step in this process, as one gauge."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._differences: dict[int, int] = {}

    def put(self, partition: int, difference: int) -> Effect:
        """Note a partition's difference; the gauge shows the sum of all, signs apart."""
        self._differences[partition] = abs(difference)
        return Observe("uptake_accounting_difference", sum(self._differences.values()), (self._step,))
