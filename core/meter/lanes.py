"""Lanes: what one partition of one of the topics beside the hot ones has told METER: its clock, and its identities as state rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from core.batch import Int64s
from core.meter.clocks import Clock
from core.meter.dedupe import Seen
from core.meter.index import Bools, UInt64s

CHUNK: Final = 1_024
"""Identities in one state row."""
Ids = tuple[str, int, int]
"""topic, generation, chunk."""


class Lane:
    """One topic's partition. `capacity`: identities in a generation."""

    def __init__(self, topic: str, capacity: int) -> None:
        self.topic = topic
        self.clock = Clock()
        self.seen = Seen(capacity)
        self._generation = 0
        self._chunks: dict[int, list[UInt64s]] = {0: []}
        """Generation → its identities, as state rows have them; the last of each is open."""
        self.changed: set[Ids] = set()
        """State rows of identities that differ from what was drained."""

    def accept(self, keys: UInt64s, capped: Int64s) -> Bools:
        """Which of the rows are first sights."""
        fresh, turns = self.seen.accept(keys, capped)
        new = keys[fresh]
        start = 0
        for turn in turns:
            self._keep(new[start:turn])
            self._turn()
            start = turn
        self._keep(new[start:])
        return fresh

    def row(self) -> list[Any]:
        """The lane, without its identities."""
        clock = self.clock
        return [clock.at, clock.replays, clock.quiet, self.seen.clock, self._generation]

    def restore(self, row: Sequence[Any], ids: dict[tuple[int, int], bytes]) -> None:
        """Take back what `row` and `content` gave."""
        self.clock.at, self.clock.replays, self.clock.quiet, self.seen.clock, self._generation = row
        self._chunks = {self._generation: []}
        for (generation, _), packed in sorted(ids.items()):
            self._chunks.setdefault(generation, []).append(np.frombuffer(packed, "<u8").copy())
        for generation, chunks in self._chunks.items():
            into = self.seen.current if generation == self._generation else self.seen.before
            for keys in chunks:
                into.add(keys)

    def content(self, at: Ids) -> bytes | None:
        """The state row of some identities; None where they are forgotten."""
        chunks = self._chunks.get(at[1])
        return np.ascontiguousarray(chunks[at[2]], "<u8").tobytes() if chunks is not None else None

    def _keep(self, keys: UInt64s) -> None:
        chunks = self._chunks[self._generation]
        while len(keys):
            if not chunks or len(chunks[-1]) >= CHUNK:
                chunks.append(np.empty(0, np.uint64))
            room = CHUNK - len(chunks[-1])
            chunks[-1] = np.concatenate([chunks[-1], keys[:room]])
            self.changed.add((self.topic, self._generation, len(chunks) - 1))
            keys = keys[room:]

    def _turn(self) -> None:
        self._generation += 1
        self._chunks[self._generation] = []
        for old in [g for g in self._chunks if g < self._generation - 1]:
            self.changed |= {(self.topic, old, n) for n in range(len(self._chunks.pop(old)))}
