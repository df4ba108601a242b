"""Usage: distinct users, uses and organic users of every feature, and of the product as a whole (`*`)."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.batch import Int64s
from core.meter import pairs
from core.meter.levels import LEVELS
from core.meter.pairs import Pairs
from core.meter.profiles import Profile, Profiles
from core.meter.source import Rows, Source
from core.meter.tally import Contributions, Lateness, tally
from core.meter.users import Users

DAY_MS: Final = LEVELS[-1].step
DAYS: Final = LEVELS[-1].reach
"""Days that the longest window of days spans."""


class Usage(Source):
    """State of one partition of `events.usage`. Columns of its rows: `cell` (0: no use of a feature), `user`, `organic`."""

    columns = pairs.COLUMNS

    def __init__(self, topic: str, partition: int, capacity: int) -> None:
        super().__init__(topic, partition, capacity)
        self.users = Users()
        self.pairs = Pairs()
        self.profiles = Profiles()

    def contribute(self, rows: Rows, watermarks: Int64s, late: Contributions) -> Lateness:
        """Counts, and new (cell, user, pane) sightings."""
        cell, user, organic = rows.columns["cell"], rows.columns["user"], rows.columns["organic"]
        self.profiles.fold(rows.group, user, rows.time)
        kinds = np.stack([self.star[rows.group], cell])
        weights = np.zeros((len(cell), len(self.columns)), np.int64)
        weights[:, pairs.EVENTS] = 1
        limits = watermarks - self.grace[rows.group]
        self.pending.fit(len(self.groups), 0)
        found = tally(kinds, 2, weights, rows.time, watermarks, limits, self.cell_group, self.pending, late)
        uses = rows.group, user, cell, rows.time, organic, watermarks
        self.pairs.fold(uses, self.grace, self.star, self.pending, late)
        self.pairs.cool(np.maximum(self.watermark, self.clock.at), self.cell_group, self.grace)
        return found

    def members(self, tenant: str, product: str, feature: str | None, end: int, days: int) -> list[str]:
        """Users of the feature (None: active users) in the `days` that end at `end` (a day's border), sorted."""
        group = self._group(tenant, product)
        wanted = "*" if feature is None else feature
        cell = next((c for c in self.locals[group] if self.cell_names[c] == wanted), 0)
        if not cell:
            return []
        rows, users = self.pairs.users(cell)
        within = self.pairs.active(rows, end // DAY_MS - days, end // DAY_MS)
        return sorted(self.users.names[u] for u in users[within].tolist())

    def profile(self, tenant: str, product: str, user: str) -> Profile | None:
        """What is kept of a user of the product; None for one without events in this partition."""
        group, number = self._group(tenant, product), self.users.get(user, 0)
        found = self.profiles.of(group, number)
        if found is None:
            return None
        pair = self.pairs.find(int(self.star[group]), number)
        first, days = self.pairs.first(pair), self.pairs.panes(pair)[-1]
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
