"""The seasonal detector: a reading against what the same time of day (or of the week) usually brings, above or below the level.

The season is cut into hours; each hour keeps how far its readings lie from the level, and counts in full once it has seen a few. The
clock is UTC. Until the first season is over this is a level detector that knows less.
"""

from __future__ import annotations

from core.detect import rarity
from core.detect.protocol import Band, Memory, Scored, bounded

HOUR_MS = 3_600_000
_SLOW = 300.0
_FLOOR = 0.05
_CLIP = 6.0
_WARM = 30.0
"""As of the level detector, on what is left when the season is taken away."""
_TRUSTED = 6.0
"""Readings of an hour until it counts in full."""
_PACE = 0.02
"""What one reading moves its hour by from then on."""
_HOUR_CLIP = 4.0
"""Clips that one reading may move its hour for."""
_JUMP_CLIP = 20.0
"""Clips that a reading of an hour not yet trusted may move the level for."""
_HEAD = 4


class Seasonal:
    """Memory: version, readings, level, usual deviation; rarity's; then of each hour its height and its readings."""

    version = 1

    def __init__(self, hours: int) -> None:
        """`hours`: of a season, 24 or 168."""
        self.hours = hours

    def begin(self) -> Memory:
        """Nothing read yet."""
        return [float(self.version), 0.0, 0.0, 0.0, *rarity.begin(), *[0.0] * (2 * self.hours)]

    def step(self, memory: Memory, at: int, value: float) -> Scored:
        """Read a value."""
        value = bounded(value)
        after = list(memory)
        _, n, level, usual = after[:_HEAD]
        place = self._place(at)
        height, seen = after[place : place + 2]
        n += 1.0
        if n == 1.0:
            level = value
        scale = _scale(level, usual)
        whole = value - level
        rest = whole - height * min(1.0, seen / _TRUSTED)
        rare, score, smooth = rarity.step(after[_HEAD : _HEAD + rarity.SIZE], n, rest / scale)
        clip = _CLIP * scale
        if n > _WARM:
            rest = _clipped(rest, clip)
            moved = rest if seen > _TRUSTED else _clipped(whole, _JUMP_CLIP * clip)
        else:
            moved = whole
        weight = max(1.0 / _SLOW, 1.0 / n)
        after[1:_HEAD] = [n, level + weight * moved, usual + weight * (abs(rest) - usual)]
        after[_HEAD : _HEAD + rarity.SIZE] = rare
        seen += 1.0
        gap = whole - height
        height += max(_PACE, 1.0 / seen) * gap if seen < _TRUSTED else _PACE * _clipped(gap, _HOUR_CLIP * clip)
        after[place : place + 2] = [height, seen]
        return Scored(after, score, smooth > 0.0)

    def band(self, memory: Memory, at: int, limit: float) -> Band:
        """Around the hour's usual value; all values before the first reading."""
        _, n, level, usual = memory[:_HEAD]
        if n == 0.0:
            return Band(0.0, float("-inf"), float("inf"))
        height, seen = memory[self._place(at) : self._place(at) + 2]
        expected, scale = level + height * min(1.0, seen / _TRUSTED), _scale(level, usual)
        low, high = rarity.reach(memory[_HEAD : _HEAD + rarity.SIZE], n + 1.0, limit)
        return Band(expected, expected + low * scale, expected + high * scale)

    def _place(self, at: int) -> int:
        """Where the hour's two numbers stand."""
        return _HEAD + rarity.SIZE + 2 * (at // HOUR_MS % self.hours)


def _scale(level: float, usual: float) -> float:
    return usual + _FLOOR * abs(level) + 1e-9


def _clipped(value: float, most: float) -> float:
    return max(-most, min(most, value))
