"""Inactivity: how likely a user does nothing for the next h days, from when they came, when they were last there, and how often.

A logistic model on these three, fitted to what became of users who stood likewise h days ago; so it is calibrated for the product
whose users it learnt from, and says how well: on users that the fit had not seen. Pure; the same users always give the same model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.predict.quality import Bools, Floats, Quality, quality

LEAST_USERS = 200
"""Fewer teach nothing."""
MOST_ERROR = 0.05
"""A calibration error above this is not trusted."""
_FOLDS = 5
_RIDGE = 1.0
_STEPS = 25


@dataclass(frozen=True, slots=True)
class Standing:
    """Where users stand at a moment, one row a user; days, whole or not, within what the data look back to."""

    age: Floats
    """Since the first event."""
    gap: Floats
    """Since the last one."""
    active: Floats
    """Days with an event."""

    def of(self, rows: Bools) -> Standing:
        """These users only."""
        return Standing(self.age[rows], self.gap[rows], self.active[rows])


@dataclass(frozen=True, slots=True)
class Model:
    """Probabilities of inactivity for one number of days."""

    weights: tuple[float, ...]
    quality: Quality
    """On users that the fit had not seen, fold by fold."""

    @property
    def trusted(self) -> bool:
        """Whether it is calibrated, and tells users apart better than their common share does."""
        return self.quality.ece <= MOST_ERROR and self.quality.brier < self.quality.base_brier

    def probability(self, users: Standing) -> Floats:
        """Of each user to be inactive."""
        return _sigmoid(_features(users) @ np.array(self.weights))


def fit(users: Standing, inactive: Bools) -> Model | None:
    """The model of users who stood so, and of whom these then were inactive; None where they are too few or all alike."""
    n, yes = len(inactive), int(inactive.sum())
    if n < LEAST_USERS or min(yes, n - yes) < _FOLDS:
        return None
    said, features = unseen(users, inactive), _features(users)
    return Model(tuple(_newton(features, inactive).tolist()), quality(said, inactive))


def unseen(users: Standing, inactive: Bools) -> Floats:
    """Each user's probability by a model of the other folds' users; folds go by row."""
    features = _features(users)
    said, fold = np.zeros(len(inactive)), np.arange(len(inactive)) % _FOLDS
    for k in range(_FOLDS):
        said[fold == k] = _sigmoid(features[fold == k] @ _newton(features[fold != k], inactive[fold != k]))
    return said


def _features(users: Standing) -> Floats:
    """Logarithms: twice as long away means the same at a week and at a month. And how many usual pauses the gap is."""
    age, gap, active = np.log1p(users.age), np.log1p(users.gap), np.log1p(users.active)
    pauses = np.log1p(users.gap * users.active / np.maximum(users.age, 1.0))
    one = np.ones(len(age))
    return np.stack([one, age, gap, active, pauses, gap * active, age * active, active * active], axis=1)


def _newton(features: Floats, inactive: Bools) -> Floats:
    """Weights of greatest penalised likelihood; the penalty (not on the constant) is slight and keeps them finite."""
    penalty = np.diag([0.0, *[_RIDGE] * (features.shape[1] - 1)])
    weights = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        said = _sigmoid(features @ weights)
        slope = features.T @ (inactive - said) - penalty @ weights
        curve = (features * (said * (1.0 - said))[:, None]).T @ features + penalty
        step = np.linalg.solve(curve + 1e-9 * np.eye(len(weights)), slope)
        weights = weights + step
        if float(np.abs(step).max()) < 1e-8:
            break
    return weights


def _sigmoid(x: Floats) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0)))
    return result
