"""Duplicates: identities seen within the horizon, in two generations.

The seen clock is the running maximum of min(occurred_at, broker time + 5 s) over all rows that are not dead, duplicates
included. When it crosses a multiple of 10 minutes, the generations turn: the row that crosses sees them turned. A full
generation turns early, at exactly the row that would overfill it, and that is counted.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from core.batch import Int64s
from core.kernels import index as kernels
from core.meter.index import Bools, KeySet, UInt64s

HORIZON_MS: Final = 600_000
NEVER: Final = -(1 << 60)


class Seen:
    """Identities of one topic's partition, at most `capacity` a generation."""

    def __init__(self, capacity: int) -> None:
        self.capacity = max(1, capacity)
        self.clock = NEVER
        self.current = KeySet()
        self.before = KeySet()
        self.shortened = 0
        """Times the horizon was cut for memory."""

    def __len__(self) -> int:
        return self.current.count + self.before.count

    def accept(self, keys: UInt64s, capped: Int64s) -> tuple[Bools, list[int]]:
        """Which rows are first sights, and before which accepted rows (counted among the accepted) a generation turned."""
        fresh = np.zeros(len(keys), np.bool_)
        turns: list[int] = []
        clock = np.maximum.accumulate(np.maximum(capped, self.clock))
        if not len(keys):
            return fresh, turns
        epoch = clock // HORIZON_MS
        steps = np.empty(len(keys), np.int64)
        steps[0] = epoch[0] - (self.clock // HORIZON_MS if self.clock != NEVER else epoch[0])
        steps[1:] = epoch[1:] - epoch[:-1]
        self.clock = int(clock[-1])
        bounds = sorted({0, *np.flatnonzero(steps).tolist(), len(keys)})
        accepted = 0
        for start, end in pairwise(bounds):
            for _ in range(min(2, int(steps[start]))):
                self.turn()
                turns.append(accepted)
            while start < end:
                room = self.capacity - self.current.count
                self.current.room(min(room, end - start))
                stop = kernels.sift(keys[:end], start, self.current.table, self.before.table, room, fresh)
                new = int(np.count_nonzero(fresh[start:stop]))
                self.current.count += new
                accepted += new
                start = stop
                if start < end:
                    self.turn()
                    turns.append(accepted)
                    self.shortened += 1
        return fresh, turns

    def replay(self, keys: UInt64s, turns: list[int], clock: int) -> None:
        """Take the rows that were accepted, as they were accepted."""
        start = 0
        for turn in turns:
            self.current.add(keys[start:turn])
            self.turn()
            start = turn
        self.current.add(keys[start:])
        self.clock = clock

    def turn(self) -> None:
        """Forget the older generation; the current one becomes the older."""
        older, self.before = self.before, self.current
        self.current = older.emptied(self.before.count)
