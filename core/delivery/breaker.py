"""A breaker: keeps attempts from a destination that does not work, and finds out with one at a time whether it does again.

    closed ──(at least half of the last attempts failed)──▶ open ──(time is up: one probe)──▶ half_open
       ▲                                                     ▲                                    │
       └──────────────(the probe went well)──────────────────┴──────────(it failed: twice as long)┘

Deliveries that wait for an open breaker use up neither attempts nor sockets, only their own time. State lives in memory: after
a recovery the breaker is closed, and a destination that is still dead opens it again within a few attempts.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

State = Literal["closed", "half_open", "open"]
Verdict = Literal["well", "failed", "neither"]
"""Of an attempt, about the destination: a refusal of what was sent is an answer, and so `well`."""

RECENT: Final = 20
"""Attempts that are looked back on."""
LEAST: Final = 8
"""Attempts below which nothing is concluded."""
OPEN_MS: Final = 5_000
"""How long the breaker stays open the first time."""
LONGEST_MS: Final = 300_000


class Breaker:
    """Of one destination. `now` is in milliseconds; attempts are told apart by their delivery's id."""

    def __init__(self) -> None:
        self.state: State = "closed"
        self.until = 0
        """While open: when a probe may go."""
        self._trips = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._probe: str | None = None

    def room(self, now: int) -> int | None:
        """How many attempts may begin; None: as many as you like."""
        if self.state == "closed":
            return None
        return 1 if self._probe is None and now >= self.until else 0

    def next_at(self) -> int | None:
        """When `room` grows by time alone: 0, already; None, not before the probe is back."""
        if self.state == "closed":
            return 0
        return None if self._probe is not None else self.until

    def started(self, id_: str) -> None:
        """An attempt begins, for which there was room."""
        if self.state != "closed":
            self.state, self._probe = "half_open", id_

    def ended(self, id_: str, verdict: Verdict, now: int) -> None:
        """An attempt is over. One that began before the breaker opened says nothing any more."""
        if self.state == "closed":
            if verdict != "neither":
                self._recent.append(verdict == "failed")
            if len(self._recent) >= LEAST and 2 * sum(self._recent) >= len(self._recent):
                self._open(now)
        elif id_ == self._probe:
            self._probe = None
            if verdict == "well":
                self.state, self._trips = "closed", 0
            else:
                self._open(now)

    def _open(self, now: int) -> None:
        self.state = "open"
        self.until = now + min(LONGEST_MS, OPEN_MS << min(self._trips, 10))
        self._trips += 1
        self._recent.clear()
