"""Usage: distinct users, uses and organic users of every feature, and of the product as a whole (`*`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from core.batch import Int64s
from core.meter import pairs
from core.meter.intern import Interner
from core.meter.levels import LEVELS
from core.meter.pairs import Pairs
from core.meter.profiles import Profile, Profiles
from core.meter.source import Rows, Source
from core.meter.tally import Contributions, Reach, tally

DAY_MS: Final = LEVELS[-1].step
DAYS: Final = LEVELS[-1].reach
"""Days that the longest window of days spans."""


class Usage(Source):
    """State of one partition of `events.usage`. Columns of its rows: `cell` (0: no use of a feature), `user`, `organic`."""

    columns = pairs.COLUMNS

    def __init__(self, topic: str, partition: int, capacity: int) -> None:
        super().__init__(topic, partition, capacity)
        self.users = Interner()
        self.pairs = Pairs()
        self.profiles = Profiles()

    def contribute(self, rows: Rows, by_level: Sequence[Reach], out: Contributions) -> None:
        """Counts, and new (cell, user, pane) sightings."""
        cell, user = rows.columns["cell"], rows.columns["user"]
        self.profiles.fold(rows.group, user, rows.time)
        star = self.star[rows.group]
        uses = np.flatnonzero(cell)
        cells, every = np.concatenate([star, cell[uses]]), by_level
        if len(uses) == len(cell):
            every = [Reach(*(np.concatenate([c, c]) for c in reach)) for reach in by_level]
            twice = np.concatenate([user, user])
            packed = rows.time * 2 + rows.columns["organic"]
            packed = np.concatenate([packed, packed])
        else:
            both = np.concatenate([np.arange(len(cell)), uses])
            every = [reach.of(both) for reach in by_level]
            twice = user[both]
            packed = (rows.time * 2 + rows.columns["organic"])[both]
        tally(out, [(pairs.EVENTS, None)], cells, every)
        keys = ((cells << 32) | twice).astype(np.uint64)
        for start in range(0, len(keys), pairs.MAX_ENTRIES):
            part = slice(start, start + pairs.MAX_ENTRIES)
            some = every if len(keys) <= pairs.MAX_ENTRIES else [Reach(*(c[part] for c in r)) for r in every]
            self.pairs.fold(keys[part], packed[part], some, out)
        self.pairs.cool(np.maximum(self.watermark, self.clock.at), self.cell_group, self.grace)

    def members(self, tenant: str, product: str, feature: str | None, end: int, days: int) -> list[str]:
        """Users of the feature (None: active users) in the `days` that end at `end` (a day's border), sorted."""
        group = self._group(tenant, product)
        wanted = "*" if feature is None else feature
        cell = next((c for c in self.locals[group] if self.cell_names[c] == wanted), 0)
        if not cell:
            return []
        keys = self.pairs.index.keys[: len(self.pairs)]
        rows = np.flatnonzero((keys >> np.uint64(32)) == np.uint64(cell))
        users = (keys[rows] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        within = self.pairs.days.any_within(rows, end // 86_400_000 - days, end // 86_400_000)
        for i, pair in enumerate(rows.tolist()):
            if pair in self.pairs.wide:
                within[i] = any(end // 86_400_000 - days <= p < end // 86_400_000 for p in self.pairs.wide[pair][-1])
        return sorted(self.users.names[u] for u in users[within].tolist())

    def profile(self, tenant: str, product: str, user: str) -> Profile | None:
        """What is kept of a user of the product; None for one without events in this partition."""
        group, number = self._group(tenant, product), self.users.get(user, 0)
        found = self.profiles.of(group, number)
        if found is None:
            return None
        key = ((self.star[[group]] << 32) | number).astype(np.uint64)
        pair = int(self.pairs.index.get(key)[0])
        first = int(self.pairs.first[pair])
        days = self.pairs.wide[pair][-1] if pair in self.pairs.wide else self.pairs.days.panes(pair)
        # a row can only be ahead of its watermark: what stands here from this day on was never too late to be marked
        since = self.watermark_of(group) // DAY_MS - DAYS + 1
        return Profile(
            first_seen=first >> 1,
            last_seen=found[0],
            events=found[1],
            active_days=tuple(day * DAY_MS for day in sorted(days) if day >= since),
            first_use="organic" if first & 1 else "attributed",
        )

    def _group(self, tenant: str, product: str) -> int:
        return next((i for i, g in enumerate(self.groups) if (g.tenant, g.product) == (tenant, product)), 0)


def organic_flags() -> dict[object, int]:
    """Attribution → organic; anything else is looked at by `read`."""
    return {None: 1, "organic": 1}


def empty() -> dict[str, Int64s]:
    """The columns of no rows."""
    return {name: np.zeros(0, np.int64) for name in ("cell", "user", "organic")}
