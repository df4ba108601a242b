"""Evidence that may be looked at at any time: intervals and verdicts whose error does not grow with the number of looks.

**Two shares** (conversion of treated and of held subjects). Under shares p and q the ratio

    E(p, q) = KT(s, n) · KT(t, m) / (p^s (1-p)^(n-s) · q^t (1-q)^(m-t)),   KT(s, n) = B(s + 1/2, n - s + 1/2) / B(1/2, 1/2)

is a martingale with mean 1 (a Beta(1/2, 1/2) mixture over each arm: Robbins, Ann. Math. Statist. 41, 1970; Krichevsky and Trofimov,
IEEE Trans. Inf. Theory 27, 1981), so by Ville's inequality it ever reaches 1/alpha with probability alpha at most. For a difference
d the least of it over all p = q + d is an e-process (universal inference: Wasserman, Ramdas, Balakrishnan, PNAS 117, 2020); the
differences for which it stays below 1/alpha are a confidence sequence. It is exact for any numbers, allocation and stopping.

**Pairs** (a figure after a command less before it): the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas (Ann. Statist. 52, 2024), mean ± s sqrt(2 (n r² + 1) / (n² r²) · ln(sqrt(n r² + 1) / alpha)), s the standard deviation.
It is approximate for few pairs: no verdict before `MIN_PAIRS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

MIN_PAIRS: Final = 10
"""Comparisons with the time before, below which nothing is concluded."""
_TIGHTEST_AT: Final = 30
"""Number of pairs at which their interval is as narrow as it can be made."""
_HALVINGS: Final = 40


class Interval(NamedTuple):
    """Between these, at all times at once, with probability 1 - alpha."""

    low: float
    high: float


def log_evidence(s: int, n: int, t: int, m: int) -> float:
    """Natural logarithm of the evidence against equal shares, `s` of `n` beside `t` of `m`; conclusive at ln(1 / alpha).

    >>> round(log_evidence(60, 100, 30, 100), 2), abs(round(log_evidence(0, 0, 0, 0), 9))
    (4.18, 0.0)
    """
    return _mixed(s, n) + _mixed(t, m) - _likelihood(s + t, n + m, (s + t) / (n + m) if n + m else 0.5)


def difference(s: int, n: int, t: int, m: int, alpha: float) -> Interval | None:
    """The interval of (share of `s` in `n`) - (share of `t` in `m`); None while an arm is empty."""
    if not n or not m:
        return None
    least = _mixed(s, n) + _mixed(t, m) + math.log(alpha)
    best = s / n - t / m

    def possible(d: float) -> bool:
        return _profile(s, n, t, m, d) > least

    return Interval(_edge(possible, best, -1.0), _edge(possible, best, 1.0))


def mean_interval(n: int, mean: float, squares: float, alpha: float) -> Interval | None:
    """Of the mean of `n` pairs, `squares` the sum of squared deviations; None below `MIN_PAIRS`."""
    if n < MIN_PAIRS:
        return None
    wanted = -2 * math.log(alpha)
    r2 = (wanted + math.log(wanted + 1)) / _TIGHTEST_AT
    grown = n * r2 + 1
    margin = math.sqrt(squares / (n - 1)) * math.sqrt(2 * grown / (n * n * r2) * math.log(math.sqrt(grown) / alpha))
    return Interval(mean - margin, mean + margin)


def _mixed(s: int, n: int) -> float:
    """Logarithm of KT(s, n)."""
    return math.lgamma(s + 0.5) + math.lgamma(n - s + 0.5) - math.lgamma(n + 1) - math.log(math.pi)


def _likelihood(s: int, n: int, p: float) -> float:
    """Logarithm of p^s (1-p)^(n-s); impossible is minus infinity."""
    if (s and p <= 0) or (n - s and p >= 1):
        return -math.inf
    return (s * math.log(p) if s else 0.0) + ((n - s) * math.log1p(-p) if n - s else 0.0)


def _profile(s: int, n: int, t: int, m: int, d: float) -> float:
    """The largest likelihood of both arms, as a logarithm, where the first share is `d` above the second."""
    low, high = max(0.0, -d), min(1.0, 1.0 - d)

    def slope(q: float) -> float:
        return _slope(s, n, q + d) + _slope(t, m, q)

    for _ in range(_HALVINGS):  # the likelihood is concave: its slope falls
        q = (low + high) / 2
        if slope(q) > 0:
            low = q
        else:
            high = q
    q = (low + high) / 2
    return _likelihood(s, n, min(1.0, max(0.0, q + d))) + _likelihood(t, m, q)


def _slope(s: int, n: int, p: float) -> float:
    up = (math.inf if p <= 0 else s / p) if s else 0.0
    down = (math.inf if p >= 1 else (n - s) / (1 - p)) if n - s else 0.0
    return up - down if up < math.inf or down < math.inf else 0.0


def _edge(possible: Callable[[float], bool], best: float, limit: float) -> float:
    """How far from the best estimate towards the limit differences stay possible."""
    if possible(limit):
        return limit
    inside, outside = best, limit
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if possible(middle):
            inside = middle
        else:
            outside = middle
    return outside
