"""The inactivity of one user of a product, by what became of the others: METER's columns of one partition.

The days kept of each user (28) teach: who stood how some days ago, and who was there since. A user is then placed the same way,
looking back equally far, so what was learnt fits. People are spread over partitions by hash: each partition's users are a fair sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.batch import Int64s
from core.meter.usage import DAY_MS, DAYS, Usage
from core.predict.inactivity import Standing, fit

MOST_DAYS = DAYS // 2
"""The farthest one may ask ahead: what is asked must have happened since, and something must be left to stand on."""


class Estimate(NamedTuple):
    """How likely a user does nothing for some days, and what that is worth."""

    days: int
    probability: float
    trusted: bool
    """Whether the model is calibrated and better than the users' common share; nothing should act on it where not."""
    age_days: float
    """Days since the first event, since the last day with one, and days with one: at most as far back as the model looks."""
    gap_days: float
    active_days: float
    users: int
    """Whom the model learnt from."""
    auc: float
    brier: float
    base_brier: float
    calibration_error: float


def inactivity(usage: Usage, tenant: str, product: str, user: str, days: int) -> Estimate | None:
    """For the next `days` (1 … `MOST_DAYS`) after the product's newest day; None for an unknown user, or where too few teach."""
    group = next((i for i, g in enumerate(usage.groups) if (g.tenant, g.product) == (tenant, product)), 0)
    number = usage.users.get(user, 0)
    pairs, users = (
        usage.pairs.users(int(usage.star[group])) if group else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    )
    mine = np.flatnonzero(users == number)
    if not number or not len(mine):
        return None
    end, back = usage.watermark_of(group) // DAY_MS + 1, DAYS - days
    first = usage.pairs.firsts(pairs) // DAY_MS
    then, since = end - days, usage.pairs.active(pairs, end - days, end)
    known = first < then
    model = fit(_standing(usage, pairs, first, then, back).of(known), ~since[known])
    if model is None:
        return None
    now = _standing(usage, pairs[mine], first[mine], end, back)
    q = model.quality
    return Estimate(
        days,
        float(model.probability(now)[0]),
        model.trusted,
        float(now.age[0]),
        float(now.gap[0]),
        float(now.active[0]),
        q.rows,
        q.auc,
        q.brier,
        q.base_brier,
        q.ece,
    )


def _standing(usage: Usage, pairs: Int64s, first: Int64s, end: int, back: int) -> Standing:
    """Before the day `end`, by the `back` days before it."""
    seen = np.stack([usage.pairs.active(pairs, day, day + 1) for day in range(end - 1, end - 1 - back, -1)])
    gap = np.where(seen.any(axis=0), seen.argmax(axis=0), back)
    age = np.clip(end - first, 0, back)
    return Standing(age.astype(np.float64), gap.astype(np.float64), seen.sum(axis=0).astype(np.float64))
