"""Bitmaps of panes, as helpers. Bit j of (low, high) stands for the pane `last - j`; a bitmap without bits has seen nothing."""

from __future__ import annotations

import numpy as np

from core.kernels import Integer, helper

NO_PANE = -(1 << 30)
"""Before every pane."""
FAR = 1 << 40
"""Behind every pane."""
_ONE = np.uint64(1)
_NONE = np.uint64(0)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@helper
def lowest(word: np.uint64) -> Integer:
    """Index of the lowest set bit of a word that has one."""
    index = 0
    for by in (32, 16, 8, 4, 2, 1):
        if word & (_ALL >> np.uint64(64 - by)) == _NONE:
            word >>= np.uint64(by)
            index += by
    return index


@helper
def highest(word: np.uint64) -> Integer:
    """Index of the highest set bit of a word that has one."""
    index = 0
    for by in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(by) != _NONE:
            word >>= np.uint64(by)
            index += by
    return index


@helper
def see(
    low: np.uint64, high: np.uint64, last: Integer, pane: Integer, wide: bool
) -> tuple[bool, Integer, Integer, np.uint64, np.uint64, Integer]:
    """Mark a pane: (is it new, the nearest pane before, the nearest after, and the bitmap's low, high and last).

    A bitmap holds 128 panes when `wide`, else 32. A pane farther back than that concerns nobody and is not new.
    """
    if low == _NONE and high == _NONE:
        return True, NO_PANE, FAR, _ONE, _NONE, pane
    if pane > last:
        by = pane - last
        if by >= 128:
            low, high = _NONE, _NONE
        elif by >= 64:
            low, high = _NONE, low << np.uint64(by - 64)
        else:
            high = (high << np.uint64(by)) | (low >> np.uint64(64 - by))
            low = low << np.uint64(by)
        low |= _ONE
        if not wide:
            low &= np.uint64(0xFFFFFFFF)
            high = _NONE
        return True, last, FAR, low, high, pane
    depth = last - pane
    if depth >= (128 if wide else 32):
        return False, NO_PANE, FAR, low, high, last
    before, after = NO_PANE, FAR
    if depth < 64:
        bit = _ONE << np.uint64(depth)
        if low & bit:
            return False, NO_PANE, FAR, low, high, last
        deeper = low & ~(bit | (bit - _ONE))
        if deeper:
            before = last - lowest(deeper)
        elif high:
            before = last - 64 - lowest(high)
        shallower = low & (bit - _ONE)
        if shallower:
            after = last - highest(shallower)
        return True, before, after, low | bit, high, last
    bit = _ONE << np.uint64(depth - 64)
    if high & bit:
        return False, NO_PANE, FAR, low, high, last
    deeper = high & ~(bit | (bit - _ONE))
    if deeper:
        before = last - 64 - lowest(deeper)
    shallower = high & (bit - _ONE)
    if shallower:
        after = last - 64 - highest(shallower)
    elif low:
        after = last - highest(low)
    return True, before, after, low, high | bit, last
