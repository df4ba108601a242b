"""Profiles: what is kept of every user of a product, and one user's profile put together.

First use, its attribution and the bitmap of days stand in the pair of the product's `*` and the user (`pairs`); here stand the
columns that only whole users need: the last event and the number of events. Late rows and rows beyond grace count as well.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.kernels import tally as kernels
from core.meter.index import KeyIndex, UInt64s
from core.meter.memory import Column


class Profile(NamedTuple):
    """One user of one product, as far as this partition has read."""

    first_seen: int
    """Milliseconds: the earliest accepted event, however late it came."""
    last_seen: int
    """Milliseconds: the latest one."""
    events: int
    """Accepted events, those that use no feature included."""
    active_days: tuple[int, ...]
    """Beginnings (milliseconds, UTC) of the days with an event, ascending; from 27 days before the product's newest on."""
    first_use: Literal["organic", "attributed"]
    """What led to the first event; of several within its millisecond an attributed one decides."""


class Profiles:
    """Last event and number of events of every (product, user). A key is `group << 32 | user`."""

    def __init__(self) -> None:
        self.index = KeyIndex()
        self._last = Column.empty(np.int64)
        self._events = Column.empty(np.uint32)

    @property
    def last(self) -> Int64s:
        """By number in `index`, and perhaps more; valid until the next `fold`, as is `events`."""
        return self._last.array

    @property
    def events(self) -> npt.NDArray[np.uint32]:
        """By number in `index`."""
        return self._events.array

    def __len__(self) -> int:
        return self.index.count

    def fold(self, groups: Int64s, users: Int64s, times: Int64s) -> None:
        """Take accepted rows, in any order."""
        rows = self.index.get_or_add(keys(groups, users))
        self._last.fit(len(self))
        self._events.fit(len(self))
        kernels.latest(rows, times, self.last, self.events)

    def of(self, group: int, user: int) -> tuple[int, int] | None:
        """(last event, events) of one user; None without any."""
        row = int(self.index.get(keys(np.array([group]), np.array([user])))[0])
        return None if row < 0 else (int(self.last[row]), int(self.events[row]))

    def restore(self, packed: UInt64s, last: Int64s, events: Int64s) -> None:
        """Become what was dumped."""
        self.index = KeyIndex(packed)
        self._last = Column(last)
        self._events = Column(events.astype(np.uint32))

    def nbytes(self) -> int:
        """Memory taken by rows that exist."""
        return self.index.nbytes() + len(self) * (8 + 4)


def keys(groups: Int64s, users: Int64s) -> UInt64s:
    """Keys of the index."""
    return ((groups << 32) | users).astype(np.uint64)
