"""Effects: what a step wants done. Values only; `transport` performs them inside the partition's next checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core.batch import Headers


@dataclass(frozen=True, slots=True)
class Emit:
    """Write one record. Without `partition`, the key's murmur2 hash chooses it."""

    topic: str
    """Without the settings' prefix."""
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()
    stamp: int = 0
    """Broker time of the one row that it was made of; 0 where it was made of more, or of time."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Set one source row aside, with its original bytes. Counted under its reason."""

    topic: str
    partition: int
    offset: int
    step: str
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    at: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Count:
    """Add `n` to a counter of `app.telemetry`; `labels` are its label values in order."""

    metric: str
    n: float = 1
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observe:
    """Add an observation to a histogram, or set a gauge, of `app.telemetry`."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


Effect = Emit | DeadLetter | Count | Observe
NOTHING: Final[tuple[Effect, ...]] = ()
