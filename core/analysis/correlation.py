"""Which features rise and fall together: correlation of the changes of their adoption rates, with its interval.

Rates that merely grow look alike, so changes are compared, not levels. It says what goes together, not what causes what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LEAST_CHANGES: Final = 8
"""Fewer common changes than that say nothing."""
_Z95: Final = 1.959963984540054

Series = Sequence[tuple[int, float]]
"""(time, rate), in order of time; a rate holds until the next."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Another feature beside the one asked about."""

    feature: str
    changes: int
    """Moments at which both are known and one of them changed."""
    correlation: float | None
    """Pearson's, of changes; None where there are too few, or one of the two never changes."""
    low: float | None
    """95 % interval (Fisher's z)."""
    high: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def correlate(series: Mapping[str, Series], of: str) -> list[Pair]:
    """Every other feature beside `of`: the clearest relation first. Raises `KeyError` where `of` has no series."""
    mine = series[of]
    pairs = [_pair(name, mine, other) for name, other in sorted(series.items()) if name != of]
    return sorted(pairs, key=lambda p: (p.correlation is None, -abs(p.correlation or 0.0), p.feature))


def _pair(name: str, mine: Series, other: Series) -> Pair:
    xs, ys = _changes(mine, other)
    n = len(xs)
    r = _pearson(xs, ys) if n >= LEAST_CHANGES else None
    if r is None:
        return Pair(name, n, None, None, None)
    if abs(r) >= 1.0:
        return Pair(name, n, r, r, r)
    z, half = math.atanh(r), _Z95 / math.sqrt(n - 3)
    return Pair(name, n, r, math.tanh(z - half), math.tanh(z + half))


def _changes(mine: Series, other: Series) -> tuple[list[float], list[float]]:
    times = sorted({at for at, _ in mine} | {at for at, _ in other})
    xs: list[float] = []
    ys: list[float] = []
    a, b = dict(mine), dict(other)
    last: tuple[float | None, float | None] = (None, None)
    for at in times:
        now = (a.get(at, last[0]), b.get(at, last[1]))
        if last[0] is not None and last[1] is not None and now[0] is not None and now[1] is not None:
            xs.append(now[0] - last[0])
            ys.append(now[1] - last[1])
        last = now
    return xs, ys


def _pearson(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    n = len(xs)
    mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
    dx, dy = [x - mean_x for x in xs], [y - mean_y for y in ys]
    across = math.fsum(x * y for x, y in zip(dx, dy, strict=True))
    size = math.sqrt(math.fsum(x * x for x in dx)) * math.sqrt(math.fsum(y * y for y in dy))
    return None if size <= 1e-12 else max(-1.0, min(1.0, across / size))
