"""Users of one product of one partition as METER's columns have them: who stood how at the end of a day, and what became of them.

Rows go by the number of the user, which is the order of first sight in the log: the same log gives the same rows, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.batch import Int64s
from core.meter.usage import DAY_MS, DAYS, Usage
from core.predict.inactivity import Standing
from core.predict.quality import Bools
from schemas.predictions import PredictionModel


class Users(NamedTuple):
    """Everybody who was ever seen in the product, with what the questions are asked of."""

    usage: Usage
    users: Int64s
    """Numbers, ascending."""
    pairs: Int64s
    """Of the product's `*`."""
    first: Int64s
    """Day of the first event."""
    used: Int64s
    """Of a conversion: day of the first use of its feature; a day that never comes where there was none."""

    def subset(self, rows: Bools) -> Users:
        """These users only."""
        return Users(self.usage, self.users[rows], self.pairs[rows], self.first[rows], self.used[rows])


_NEVER = 1 << 40


def everybody(usage: Usage, group: int, feature: str | None = None) -> Users:
    """All users of the group. `feature`: of a conversion."""
    pairs, users = usage.pairs.users(int(usage.star[group]))
    order = np.argsort(users, kind="stable")
    pairs, users = pairs[order], users[order]
    used = np.full(len(users), _NEVER, np.int64)
    cell = None if feature is None else next((c for c in usage.locals[group] if usage.cell_names[c] == feature), None)
    if cell is not None:
        theirs, who = usage.pairs.users(cell)
        used[np.searchsorted(users, who)] = usage.pairs.firsts(theirs) // DAY_MS
    return Users(usage, users, pairs, usage.pairs.firsts(pairs) // DAY_MS, used)


def asked_of(users: Users, model: PredictionModel, day: int, horizon: int) -> Bools:
    """Whom the question is about at the beginning of `day`: known, seen in the days that are looked back to, and (of a
    conversion) without a use of the feature yet.
    """
    about: Bools = (users.first < day) & users.usage.pairs.active(users.pairs, day - back(horizon), day)
    return about & (users.used >= day) if model == "conversion" else about


def came_true(users: Users, model: PredictionModel, day: int, horizon: int) -> Bools:
    """Of whom it came true within the `horizon` days from `day` on."""
    if model == "conversion":
        true: Bools = users.used < day + horizon
        return true
    return ~users.usage.pairs.active(users.pairs, day, day + horizon)


def standing(users: Users, day: int, horizon: int) -> Standing:
    """How they stood at the beginning of `day`, by the days before it that are looked back to."""
    far = back(horizon)
    seen = np.stack([users.usage.pairs.active(users.pairs, d, d + 1) for d in range(day - 1, day - 1 - far, -1)])
    gap = np.where(seen.any(axis=0), seen.argmax(axis=0), far)
    age = np.clip(day - users.first, 0, far)
    return Standing(age.astype(np.float64), gap.astype(np.float64), seen.sum(axis=0).astype(np.float64))


def back(horizon: int) -> int:
    """Days that are looked back to: what was predicted `horizon` days ago looked back as far as what is predicted now."""
    return DAYS - horizon
