"""Levels: the pane sizes, the windows made of them, and bitmaps of panes as Python reads them (`core.kernels.bits` writes them).

A pane is a stretch of one step. A window of `k` panes that ends at `e` holds the panes e-k … e-1, so a use in pane `p` counts
in the ends p+1 … p+k. If the pair's nearest uses around `p` are in the panes `q` before and `n` after, what is new are the ends
max(p+1, q+k+1) … min(p+k, n): two differences, whatever the number of windows, and no unions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.registers import WINDOWS


@dataclass(frozen=True, slots=True)
class Level:
    """One pane size, and the windows made of it."""

    step: int
    windows: tuple[tuple[str, int], ...]
    """(name, panes)."""
    wide: bool
    """Bitmaps of 128 panes instead of 32: short panes, of which grace spans many."""

    @property
    def reach(self) -> int:
        """Panes of its longest window: a pane farther back than that concerns no end."""
        return max(k for _, k in self.windows)

    @property
    def width(self) -> int:
        """Panes that a bitmap spans."""
        return 128 if self.wide else 32


def _levels() -> tuple[Level, ...]:
    steps = sorted({step for _, step in WINDOWS.values()})
    return tuple(
        Level(step, tuple((name, length // s) for name, (length, s) in WINDOWS.items() if s == step), step < 3_600_000)
        for step in steps
    )


LEVELS: Final = _levels()
"""Finest first: 10 s, 1 min, 1 h, 1 d."""

PLAN: Final = np.array([(i, level.step, k) for i, level in enumerate(LEVELS) for _, k in level.windows])
"""(level, step, panes) of each window, for kernels; windows are numbered so, finest first."""
_FIRST: Final = np.searchsorted(PLAN[:, 0], range(len(LEVELS) + 1))
LEVEL_TABLE: Final = np.array(
    [(level.step, level.reach, level.width, *_FIRST[i : i + 2]) for i, level in enumerate(LEVELS)], np.int64
)
"""(step, reach, width, first window, window behind the last) of each level, for kernels."""


def panes(low: int, high: int, last: int) -> set[int]:
    """The panes of a bitmap."""
    bits = low | high << 64
    return {last - j for j in range(bits.bit_length()) if bits >> j & 1}


def bitmap(of: set[int], width: int) -> tuple[int, int, int]:
    """(low, high, last) of panes; those farther back than the bitmap reaches are left out."""
    if not of:
        return 0, 0, 0
    last = max(of)
    bits = sum(1 << (last - pane) for pane in of if last - pane < width)
    return bits & (1 << 64) - 1, bits >> 64, last
