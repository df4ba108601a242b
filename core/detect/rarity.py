"""How rare a deviation is, by the deviations of the same series before it: one limit then means the same for every series.

Deviations are smoothed (a lasting small one counts as a short large one does), and the logarithm of their size is compared with a
running quantile: what is above it is taken as exponentially distributed, so sizes have a Pareto tail, as heavy as the series makes it.
"""

from __future__ import annotations

from math import exp, log, log10

from core.detect.protocol import Memory

SMOOTH = 10.0
"""Readings that a deviation is smoothed over."""
SIZE = 4
"""Numbers of memory: smoothed deviation, quantile, mean excess above it, excesses."""
_HISTORY = 1000.0
"""Readings that the quantile is of."""
_TAIL = 0.02
"""Share of readings above the quantile."""
_LEAST_EXCESS = 0.2
"""The tail is never taken as lighter than this: a series that hardly varies says little about its extremes."""
_PACE, _WARM = 0.005, 100.0
"""Share that one excess moves the mean excess by, and how many excesses its first value stands for: slow, so that an incident that
lasts for some hundred readings does not make itself ordinary."""
_TINY = 1e-3
"""Added to sizes: deviations far below the usual one are all alike."""
_FARTHEST = 300.0
"""Logarithms beyond this are infinite for our purpose."""


def begin() -> Memory:
    """Nothing seen."""
    return [0.0, 0.0, 0.5, 0.0]


def step(memory: Memory, n: float, deviation: float) -> tuple[Memory, float, float]:
    """The memory after the `n`-th deviation (from 1), its score, and the smoothed deviation."""
    smooth, quantile, excess, count = memory
    smooth += _weight(SMOOTH, n) * (deviation - smooth)
    size = log(_TINY + abs(smooth))
    if n == 1.0:
        quantile = size
    score, pace = 0.0, _weight(_HISTORY, n)
    over = size - quantile
    if over > 0.0:
        score = over / excess / log(10.0) - log10(_TAIL)
        excess += max(_PACE, 1.0 / (_WARM + count)) * (min(over, 4.0 * excess) - excess)
        excess = max(excess, _LEAST_EXCESS)
        count += 1.0
        quantile += pace * (1.0 - _TAIL)
    else:
        quantile -= pace * _TAIL
    return [smooth, quantile, excess, count], score, smooth


def reach(memory: Memory, n: float, limit: float) -> tuple[float, float]:
    """Between which deviations the `n`-th would score less than `limit`."""
    smooth, quantile, excess, _ = memory
    above = max(0.0, (limit + log10(_TAIL)) * excess * log(10.0))
    size = max(0.0, exp(min(_FARTHEST, quantile + above)) - _TINY)
    weight = _weight(SMOOTH, n)
    return smooth + (-size - smooth) / weight, smooth + (size - smooth) / weight


def _weight(readings: float, n: float) -> float:
    """Of the newest in a mean of so many; of all while there are fewer."""
    return max(1.0 / readings, 1.0 / n)
