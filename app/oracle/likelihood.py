"""The logistic model of predictions (`docs/semantics.md` §4), over users who stand alike, and how good what it says is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import exp, fsum, log1p
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Cell = tuple[int, int, int]
"""Age, gap, active days."""
FOLDS, BINS, DIGITS = 5, 10, 6


class Measure(NamedTuple):
    """How good probabilities were."""

    by: str
    at: int
    auc: float
    brier: float
    base_brier: float
    error: float
    users: int


def likeliest(stood: Sequence[Cell], true: Sequence[bool]) -> list[float]:
    """Weights that make what became of these users likeliest, less half the sum of squares of all weights but the constant's."""
    return _likeliest(Counter(stood), Counter(c for c, yes in zip(stood, true, strict=True) if yes))


def _likeliest(all_of: Mapping[Cell, int], yes_of: Mapping[Cell, int]) -> list[float]:
    cells = sorted(all_of)
    x = np.array([_parts(c) for c in cells])
    count = np.array([all_of[c] for c in cells], float)
    yes = np.array([yes_of.get(c, 0) for c in cells], float)
    small = np.array([0.0] + [1.0] * (x.shape[1] - 1))

    def worth(w: npt.NDArray[np.float64]) -> float:
        z = x @ w
        return float(yes @ z - count @ np.logaddexp(0.0, z) - small @ (w * w) / 2)

    w = np.zeros(x.shape[1])
    for _ in range(200):
        p = 1.0 / (1.0 + np.exp(-(x @ w)))
        slope = x.T @ (yes - count * p) - small * w
        if np.abs(slope).max() < 1e-9 * len(cells):
            return [float(weight) for weight in w]
        way = np.linalg.solve(x.T @ (x * (count * p * (1 - p))[:, None]) + np.diag(small), slope)
        far = 1.0
        while far > 1e-6 and worth(w + far * way) < worth(w) - 1e-9:
            far /= 2
        w = w + far * way
    raise ArithmeticError("the likeliest weights were not found")


def _parts(cell: Cell) -> list[float]:
    age, gap, active = map(log1p, cell)
    pauses = log1p(cell[1] * cell[2] / max(cell[0], 1))
    return [1.0, age, gap, active, pauses, gap * active, age * active, active * active]


def said_of(weights: Sequence[float], stood: Iterable[Cell]) -> list[float]:
    """The probability of each, to six digits."""
    known: dict[Cell, float] = {}
    out = []
    for cell in stood:
        if cell not in known:
            z = fsum(w * part for w, part in zip(weights, _parts(cell), strict=True))
            known[cell] = round(1.0 / (1.0 + exp(-z)), DIGITS)
        out.append(known[cell])
    return out


def folds_of(stood: Sequence[Cell], true: Sequence[bool]) -> list[float]:
    """The probability of each by the users of the other four folds; folds go by place."""
    out = [0.0] * len(stood)
    for fold in range(FOLDS):
        others = [i for i in range(len(stood)) if i % FOLDS != fold]
        weights = likeliest([stood[i] for i in others], [true[i] for i in others])
        out[fold::FOLDS] = said_of(weights, stood[fold::FOLDS])
    return out


def measured(by: str, at: int, said: Sequence[float], true: Sequence[bool]) -> Measure:
    """What was said beside what came true."""
    n, yes = len(said), sum(true)
    brier = fsum((p - t) ** 2 for p, t in zip(said, true, strict=True)) / n
    order = sorted(range(n), key=lambda i: said[i])
    error, start = 0.0, 0
    for b in range(BINS):
        stop = start + n // BINS + (b < n % BINS)
        error += abs(fsum(said[i] - true[i] for i in order[start:stop])) / n
        start = stop
    return Measure(by, at, _auc(said, true), brier, yes / n * (1 - yes / n), error, n)


def _auc(said: Sequence[float], true: Sequence[bool]) -> float:
    """Chance that one of whom it came true had more than one of whom it did not; equal ones count half."""
    yes: Counter[float] = Counter()
    no: Counter[float] = Counter()
    for p, t in zip(said, true, strict=True):
        (yes if t else no)[p] += 1
    if not yes or not no:
        return 0.5
    below, won = 0, 0.0
    for p in sorted({*yes, *no}):
        won += yes[p] * (below + no[p] / 2)
        below += no[p]
    return won / (yes.total() * no.total())
