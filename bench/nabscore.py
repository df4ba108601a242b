"""NAB's scoring rule: what a list of detections on a labelled series is worth, and how a corpus is summed up.

Source of the rule: A. Lavin and S. Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark",
ICMLA 2015 (arXiv:1510.03336), section III, with the constants of the benchmark's public description. In its words:

* Rows of the probation, the first 15 % but at most 750, do not count.
* A detection at relative place y scores `2 / (1 + exp(5 y)) - 1`. In a window of n rows y goes from -1 at the first row to
  -1/n at the last; behind the newest window, y is the distance to its last row over n - 1; beyond 3, and with no window before, the
  score is -1.
* A window counts its best (earliest) detection, times A_TP and scaled so that the first row gives 1; without any, -A_FN. Every
  detection outside windows counts its (negative) score times A_FP.
* The corpus: 100 (sum - null) / (perfect - null), null: nothing ever detected, perfect: every window at its first row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights of hits, false alarms and misses."""

    hit: float
    false_alarm: float
    miss: float


STANDARD = Profile(1.0, 0.11, 1.0)
LOW_FALSE_ALARMS = Profile(1.0, 0.22, 1.0)
LOW_MISSES = Profile(1.0, 0.11, 2.0)


def probation(rows: int) -> int:
    """How many rows at the beginning do not count.

    >>> probation(1000), probation(20_000)
    (150, 750)
    """
    return int(0.15 * min(rows, 5000))


def sigmoid(place: float) -> float:
    """The worth of a detection at this relative place.

    >>> sigmoid(0.0), round(sigmoid(-1.0), 5), sigmoid(3.5)
    (0.0, 0.98661, -1.0)
    """
    return -1.0 if place > 3.0 else 2.0 / (1.0 + exp(5.0 * place)) - 1.0


@dataclass(frozen=True, slots=True)
class Worth:
    """What each row would add if it alone were detected."""

    window: npt.NDArray[np.int64]
    """Number of the window that the row is in; -1: none; -2: probation."""
    worth: Floats
    """In a window: share of a whole hit; outside: at most 0."""
    windows: int


def worths(rows: int, windows: Sequence[tuple[int, int]]) -> Worth:
    """Of a series with these windows: (first row, last row), in order, apart from each other."""
    number = np.full(rows, -1, np.int64)
    worth = np.full(rows, -1.0)
    for k, (first, last) in enumerate(windows):
        size = last - first + 1
        until = windows[k + 1][0] if k + 1 < len(windows) else rows
        for i in range(first, last + 1):
            number[i] = k
            worth[i] = sigmoid(-(last - i + 1) / size) / sigmoid(-1.0)
        for i in range(last + 1, until):
            worth[i] = sigmoid((i - last) / max(1, size - 1))
    number[: probation(rows)] = -2
    return Worth(number, worth, len(windows))


def raw(of: Worth, detected: npt.NDArray[np.int64], profile: Profile = STANDARD) -> float:
    """The score of detections at these rows, before the corpus is scaled."""
    outside = detected[of.window[detected] == -1]
    score = profile.false_alarm * float(of.worth[outside].sum())
    for k in range(of.windows):
        inside = detected[of.window[detected] == k]
        score += profile.hit * float(of.worth[inside].max()) if len(inside) else -profile.miss
    return score


def scaled(score: float, windows: int, profile: Profile = STANDARD) -> float:
    """The corpus' score out of 100; raises `ZeroDivisionError` where there is no window to score by."""
    null = -profile.miss * windows
    return 100.0 * (score - null) / (profile.hit * windows - null)
