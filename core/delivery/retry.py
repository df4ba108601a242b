"""What follows an attempt that failed: another one, with jitter, or the end, with look-ahead.

    delay = Retry-After + uniform(0, min(5 min, 1 s * 2^(attempt - 1)))        ("full jitter")

The uniform number comes from the delivery's id and the attempt, so a replay waits as long as the first time did.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from schemas.delivery import Retry

BASE_MS: Final = 1_000
LONGEST_MS: Final = 300_000
_FURTHEST_S: Final = 10 * 365 * 86_400.0

Budget = Literal["attempts_exhausted", "too_old", "would_expire"]
"""Which limit ended it: attempts, the connection's longest age, the command's own expiry."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one delivery."""

    attempts: int
    until: int
    """Oldest it may get (its arrival and the connection's `max_age_s`), milliseconds."""
    expires_at: int
    """The command's own end."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again at this time."""

    at: int


@dataclass(frozen=True, slots=True)
class Over:
    """No further attempt fits; known now, so said now."""

    budget: Budget


def after(retry: Retry, delivery: str, attempt: int, limits: Limits, now: int) -> Again | Over:
    """What follows attempt number `attempt` (from 1), which ended at `now` with `retry`."""
    if attempt >= limits.attempts:
        return Over("attempts_exhausted")
    at = now + delay_ms(delivery, attempt, retry.after_s)
    if at >= limits.expires_at:
        return Over("would_expire")
    if at > limits.until:
        return Over("too_old")
    return Again(at)


def delay_ms(delivery: str, attempt: int, after_s: float | None = None) -> int:
    """How long to wait: never less than the destination asked for, never more than that and the ceiling."""
    ceiling = min(LONGEST_MS, BASE_MS << min(attempt - 1, 20))
    asked = 0 if after_s is None else int(1_000 * min(max(after_s, 0.0), _FURTHEST_S))
    return asked + int(ceiling * _fraction(delivery, attempt))


def _fraction(delivery: str, attempt: int) -> float:
    digest = hashlib.blake2b(f"{delivery}\x1f{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
