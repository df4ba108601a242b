"""The ledger: ids of commands already taken, so that one that comes again does nothing again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

HOUR_MS = 3_600_000
REPLAY_HORIZON_MS = 7 * 24 * HOUR_MS
"""How long after its expiry a command's id is remembered: as long as the commands' topics keep their rows."""


class Ledger:
    """Remembers ids until a time. Forgets by the hour, so that what is forgotten does not depend on when it is asked."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}
        self._hours: defaultdict[int, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._until

    def add(self, id_: str, until: int) -> None:
        """Remember an id until (at least) this time."""
        before = self._until.get(id_)
        if before is not None:
            self._hours[before // HOUR_MS].discard(id_)
        self._until[id_] = until
        self._hours[until // HOUR_MS].add(id_)

    def forget(self, now: int) -> Iterator[str]:
        """Forget every id whose hour has passed, and name it."""
        for hour in sorted(h for h in self._hours if (h + 1) * HOUR_MS <= now):
            for id_ in sorted(self._hours.pop(hour)):
                del self._until[id_]
                yield id_
