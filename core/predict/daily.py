"""Predictions of one product, day by day of event time: measured by what came true, fitted anew, and held against their limit.

When a day has ended, in this order: the probabilities of the day whose horizon has just passed are scored by what became of those
users (that is the quality gate's measure); the model learns from how users stood then and what became of them; everybody it asks
about now is given a probability, which goes through the states of thresholds. While the gate is closed nobody's state moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from core.batch import Int64s
from core.detect.threshold import OK, Edge, Limits, State, step
from core.meter.usage import DAY_MS, Usage
from core.predict.inactivity import LEAST_USERS, Model, Standing, fit
from core.predict.quality import DIGITS, Quality, quality
from core.predict.standings import Users, asked_of, came_true, everybody, standing
from schemas.predictions import Prediction

VERSION: Final = 1
"""Of the model's form; another one raises it, and what was fitted before is not scored."""
MOST_TAUGHT: Final = 20_000
"""Users that a day's model learns from; of more, every second, third …"""


class Measured(NamedTuple):
    """How good probabilities were."""

    by: str
    """`outcomes` or `folds`."""
    at: int
    """The day (its beginning, milliseconds) of which they were."""
    quality: Quality


class Said(NamedTuple):
    """One user's edge."""

    user: str
    edge: Edge
    state: State
    """Firing: the state that it is in, or was."""
    probability: float
    standing: tuple[float, float, float]
    """Age, gap, active days."""
    reasons: dict[str, float]
    fitted: int


@dataclass(slots=True)
class Series:
    """What is kept of one prediction of one product between two days."""

    day: int
    """Days before this one (since the epoch) have ended and are judged."""
    weights: dict[int, list[float]] = field(default_factory=dict)
    """Day → those of the model that gave its probabilities, until their horizon has passed."""
    outcomes: Measured | None = None
    folds: Measured | None = None
    states: dict[str, State] = field(default_factory=dict)
    """User → where their probability stands; those that are `ok` take no room."""

    @property
    def measured(self) -> Measured | None:
        """The newest measure: of what came true, as soon as there is one."""
        return self.outcomes or self.folds

    def trusted(self, prediction: Prediction) -> bool:
        """Whether the quality gate is open."""
        found = self.measured
        return (
            found is not None
            and found.quality.ece <= prediction.max_error
            and found.quality.brier < found.quality.base_brier
        )

    def rows(self) -> list[Any]:
        """As plain values, without the states."""
        measured = [None if m is None else [m.by, m.at, list(m.quality)] for m in (self.outcomes, self.folds)]
        return [VERSION, self.day, sorted(self.weights.items()), *measured]

    @classmethod
    def of(cls, row: list[Any]) -> Series:
        """From plain values."""
        version, day, weights, *measured = row
        outcomes, folds = (None if m is None else Measured(m[0], m[1], Quality(*m[2])) for m in measured)
        if version != VERSION:
            return cls(day)
        return cls(day, {d: list(w) for d, w in weights}, outcomes, folds)


def end_day(series: Series, usage: Usage, group: int, prediction: Prediction, day: int) -> list[Said]:
    """The day before `day` has ended: what crossed and what cleared, in order of name."""
    series.day = day
    users, horizon = everybody(usage, group, prediction.feature), prediction.horizon_days
    before = day - horizon
    then = users.subset(asked_of(users, prediction.model, before, horizon))
    weights = series.weights.pop(before, None)
    stood = standing(then, before, horizon)
    true = came_true(then, prediction.model, before, horizon)
    if weights is not None and len(true) >= LEAST_USERS:
        said = Model(tuple(weights), _UNMEASURED).probability(stood)
        series.outcomes = Measured("outcomes", before * DAY_MS, quality(said, true))
    for old in [d for d in series.weights if d <= before]:
        del series.weights[old]
    nth = np.arange(len(true)) % (1 + len(true) // MOST_TAUGHT) == 0
    model = fit(stood.of(nth), true[nth])
    if model is None:
        return []
    series.folds = Measured("folds", before * DAY_MS, model.quality)
    series.weights[day] = list(model.weights)
    now = users.subset(asked_of(users, prediction.model, day, horizon))
    return list(_judged(series, model, now, standing(now, day, horizon), prediction, day * DAY_MS))


def probability(series: Series, usage: Usage, group: int, prediction: Prediction, user: str) -> float | None:
    """One user's by the newest day's model, as they stand at the beginning of that day; None for one who is not asked about."""
    weights, number = series.weights.get(series.day), usage.users.get(user, 0)
    users = everybody(usage, group, prediction.feature)
    mine = users.subset(
        (users.users == number) & asked_of(users, prediction.model, series.day, prediction.horizon_days)
    )
    if weights is None or not number or not len(mine.users):
        return None
    said = Model(tuple(weights), _UNMEASURED).probability(standing(mine, series.day, prediction.horizon_days))
    return float(np.round(said, DIGITS)[0])


def _judged(
    series: Series, model: Model, users: Users, now: Standing, prediction: Prediction, at: int
) -> Iterator[Said]:
    names = users.usage.users.names
    there = {names[u]: i for i, u in enumerate(users.users.tolist()) if names[u] and (names[u] in series.states)}
    if not series.trusted(prediction):
        return
    # Who is not asked about any more (gone for as long as is looked back to, or converted) has no state, and no edge either.
    series.states = {name: s for name, s in series.states.items() if name in there}
    said = np.round(model.probability(now), DIGITS)
    for row in _past(said, prediction, users.users, names):
        there[names[int(users.users[row])]] = row
    limits = Limits(
        op=">",
        limit=prediction.limit,
        clear_limit=prediction.clear_limit,
        for_s=prediction.for_s,
        keep_firing_for_s=prediction.keep_firing_for_s,
        on_no_data="keep",
    )
    for name in sorted(there):
        row = there[name]
        state = series.states.get(name, OK)
        after, edge = step(state, float(said[row]), at, limits)
        if after == OK:
            series.states.pop(name, None)
        else:
            series.states[name] = after
        if edge is not None:
            stands = float(now.age[row]), float(now.gap[row]), float(now.active[row])
            why = _reasons(model, now, row)
            yield Said(name, edge, after if edge == "crossed" else state, float(said[row]), stands, why, at)


def _past(said: Any, prediction: Prediction, users: Int64s, names: list[str]) -> list[int]:
    found: list[int] = np.flatnonzero(said > prediction.limit).tolist()
    return [row for row in found if names[int(users[row])]]


def _reasons(model: Model, all_of_them: Standing, row: int) -> dict[str, float]:
    """By how much each part of how the user stands moves the log odds, beside the same user with everybody's median in it."""
    mine = [float(part[row]) for part in (all_of_them.age, all_of_them.gap, all_of_them.active)]
    medians = [float(np.median(part)) for part in (all_of_them.age, all_of_them.gap, all_of_them.active)]
    own = _log_odds(model, mine)
    found: dict[str, float] = {}
    for i, name in enumerate(("age_days", "gap_days", "active_days")):
        other = [*mine[:i], medians[i], *mine[i + 1 :]]
        found[name] = round(own - _log_odds(model, other), 3)
    return found


def _log_odds(model: Model, stands: list[float]) -> float:
    one = Standing(*(np.array([value]) for value in stands))
    p = float(np.clip(model.probability(one)[0], 1e-12, 1 - 1e-12))
    return float(np.log(p / (1.0 - p)))


_UNMEASURED: Final = Quality(0.5, 0.0, 0.0, 0.0, 0)
