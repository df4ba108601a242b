"""The level detector: a reading against the series' own level and usual deviation, both moving slowly.

For figures without a rhythm. A reading that jumps moves the level only as far as a few usual deviations would, so an incident does not
become the new normal at once; one that stays does, in some hundred readings.
"""

from __future__ import annotations

from core.detect import rarity
from core.detect.protocol import Band, Memory, Scored, bounded

_SLOW = 300.0
"""Readings that level and usual deviation are of."""
_FLOOR = 0.05
"""Share of the level that is no deviation to speak of."""
_CLIP = 6.0
"""Usual deviations that one reading may count for."""
_WARM = 30.0
"""Readings until that holds."""


class Level:
    """Memory: version, readings, level, usual deviation, then rarity's."""

    version = 1

    def begin(self) -> Memory:
        """Nothing read yet."""
        return [float(self.version), 0.0, 0.0, 0.0, *rarity.begin()]

    def step(self, memory: Memory, at: int, value: float) -> Scored:
        """Read a value."""
        value = bounded(value)
        _, n, level, usual, *rare = memory
        n += 1.0
        if n == 1.0:
            level = value
        scale = _scale(level, usual)
        gap = value - level
        rare, score, smooth = rarity.step(rare, n, gap / scale)
        if n > _WARM:
            gap = max(-_CLIP * scale, min(_CLIP * scale, gap))
        weight = max(1.0 / _SLOW, 1.0 / n)
        level, usual = level + weight * gap, usual + weight * (abs(gap) - usual)
        return Scored([float(self.version), n, level, usual, *rare], score, smooth > 0.0)

    def band(self, memory: Memory, at: int, limit: float) -> Band:
        """Around the level; all values before the first reading."""
        _, n, level, usual, *rare = memory
        if n == 0.0:
            return Band(0.0, float("-inf"), float("inf"))
        scale = _scale(level, usual)
        low, high = rarity.reach(rare, n + 1.0, limit)
        return Band(level, level + low * scale, level + high * scale)


def _scale(level: float, usual: float) -> float:
    return usual + _FLOOR * abs(level) + 1e-9
