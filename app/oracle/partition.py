"""One partition's log in offset order: duplicates go, watermarks are kept, what is left becomes columns."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from app.oracle.rows import Dead, Marker, read

AHEAD_MS = 5_000
GENERATION_MS = 600_000
NEVER = -(1 << 60)
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Folded:
    """A partition's accepted rows in offset order, as equally long columns, and what became of the others."""

    performance: bool
    partition: int
    product: Ints
    """Index into `products`."""
    name: Ints
    """Index into `names`: the feature used, or what a request is about; -1 for another activity."""
    user: Ints
    """A number that stands for the user in this partition and tenant."""
    at: Ints
    watermark: Ints
    """Of the row's product, after the row."""
    told: Ints
    """What markers before the row say of its product."""
    organic: Ints
    latency_us: Ints
    error: Ints
    products: list[tuple[str, str]]
    names: list[str]
    users: list[str]
    clock: int
    """What the markers say at the end of the log."""
    held: dict[tuple[str, str], int]
    """What they say of products that began with a replay which is open at the end of the log."""
    outcomes: dict[str, int]
    """accepted, duplicate, control, and each dead letter's reason."""
    acts: bool
    """Whether the newest marker lets old data act."""


@dataclass(slots=True)
class Partition:
    """Folds one partition's records."""

    performance: bool
    partition: int
    disorder_ms: int = 2_000
    clock: int = NEVER
    acts: bool = True
    outcomes: Counter[str] = field(default_factory=Counter)
    _seen: int = NEVER
    _current: set[tuple[str, str, str]] = field(default_factory=set)
    _before: set[tuple[str, str, str]] = field(default_factory=set)
    _open: set[str] = field(default_factory=set)
    """Replays that have begun and not ended."""
    _held: dict[tuple[str, str], int] = field(default_factory=dict)
    """Products that began with a replay, until none is open: what markers since then say."""
    _own: dict[tuple[str, str], int] = field(default_factory=dict)
    _products: dict[tuple[str, str], int] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)
    _users: dict[tuple[str, str], int] = field(default_factory=dict)
    _columns: tuple[array[int], ...] = field(default_factory=lambda: tuple(array("q") for _ in range(9)))

    def add(self, value: bytes | None, headers: Iterable[tuple[str, bytes]], broker_ms: int) -> None:
        """Take the next record."""
        row = read(value, headers, self.performance, broker_ms)
        if isinstance(row, Dead):
            self.outcomes[row.reason] += 1
            return
        if isinstance(row, Marker):
            self.outcomes["control"] += 1
            self.acts = row.act or row.kind == "ended"
            self._mark(row)
            return
        capped = min(row.occurred_at, broker_ms + AHEAD_MS)
        self._turn(capped)
        identity = (row.tenant, row.source, row.id)
        if identity in self._current or identity in self._before:
            self.outcomes["duplicate"] += 1
            return
        self._current.add(identity)
        self.outcomes["accepted"] += 1
        of = (row.tenant, row.product)
        self._own[of] = max(self._own.get(of, NEVER), capped - self.disorder_ms)
        name = row.about if self.performance else row.feature
        told = self._held.get(of, self.clock)
        values = (
            self._products.setdefault(of, len(self._products)),
            -1 if name is None else self._names.setdefault(name, len(self._names)),
            self._users.setdefault((row.tenant, row.user), len(self._users)),
            row.occurred_at,
            max(self._own[of], told),
            told,
            row.organic,
            row.latency_us,
            row.error,
        )
        for column, number in zip(self._columns, values, strict=True):
            column.append(number)

    def _mark(self, marker: Marker) -> None:
        at = marker.at - self.disorder_ms
        if marker.kind == "begun":
            self._open.add(marker.replay)
            for of in marker.products:
                if of not in self._own:
                    self._own[of] = self._held[of] = max(at, 0)
        elif marker.kind == "progressed":
            self.clock = max(self.clock, at)
            self._held = {of: max(mark, at) for of, mark in self._held.items()}
        else:
            self._open.discard(marker.replay)
        if not self._open:
            for of, mark in self._held.items():
                self._own[of] = max(self._own[of], mark)
            self._held = {}

    def _turn(self, capped: int) -> None:
        """Move the seen clock; generations turn when it crosses a multiple of ten minutes."""
        if capped <= self._seen:
            return
        if self._seen != NEVER:
            steps = capped // GENERATION_MS - self._seen // GENERATION_MS
            if steps:
                self._before = self._current if steps == 1 else set()
                self._current = set()
        self._seen = capped

    def folded(self) -> Folded:
        """Everything so far."""
        product, name, user, at, watermark, told, organic, latency, error = (
            np.array(column, dtype=np.int64) for column in self._columns
        )
        return Folded(
            self.performance,
            self.partition,
            product,
            name,
            user,
            at,
            watermark,
            told,
            organic,
            latency,
            error,
            list(self._products),
            list(self._names),
            [user for _, user in self._users],
            self.clock,
            dict(self._held),
            dict(self.outcomes),
            self.acts,
        )
