"""Open addressing, as helpers: where a 64-bit key has its home in a table of any size. Tables hold number + 1, 0 being free."""

from __future__ import annotations

import numpy as np

from core.kernels import helper

_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


@helper
def home(key: np.uint64, size: np.uint64) -> np.uint64:
    """First slot of a key among `size` (< 2**32): the upper half of a product, scaled."""
    mixed = (key ^ (key >> _HALF)) * _MIX
    mixed ^= mixed >> _HALF
    mixed *= _MIX
    return np.uint64(((mixed >> _HALF) * size) >> _HALF)
