"""Accounts: every command and every delivery ends up in exactly one column (the balances are `core.accounts`')."""

from __future__ import annotations

import msgspec


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
