"""XXH3's 64 bits of up to 128 bytes, as a helper: the same that `xxhash` gives, whose own call costs as much as all else a row needs.

After the specification of XXH3 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md); constants are its own.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from core.kernels import Integer, helper
from core.kernels.memory import byte, folded, word

LONGEST: Final = 128
"""Bytes; what is longer is digested another way."""

_PRIME_1 = np.uint64(0x9E3779B185EBCA87)
_PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3 = np.uint64(0x165667B19E3779F9)
_MIX_1 = np.uint64(0x165667919E3779F9)
_MIX_2 = np.uint64(0x9FB21C651E98DF25)
_SECRET: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c3c"
    "2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
)
_S = tuple(np.uint64(int.from_bytes(_SECRET[i : i + 8], "little")) for i in range(0, 128, 8))
_SHORT = np.uint64(int.from_bytes(_SECRET[:4], "little") ^ int.from_bytes(_SECRET[4:8], "little"))
_FEW = _S[1] ^ _S[2]
_LOW, _HIGH = _S[3] ^ _S[4], _S[5] ^ _S[6]
_NOTHING = _S[7] ^ _S[8]
_S0, _S1, _S2, _S3, _S4, _S5, _S6, _S7, _S8, _S9, _S10, _S11, _S12, _S13, _S14, _S15 = _S

_8, _16, _24, _28 = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(28)
_29, _32, _33, _35, _37 = np.uint64(29), np.uint64(32), np.uint64(33), np.uint64(35), np.uint64(37)
_15, _40, _49, _56, _48 = np.uint64(15), np.uint64(40), np.uint64(49), np.uint64(56), np.uint64(48)
_LOWER = np.uint64(0xFFFFFFFF)
_ODD_BYTES, _ODD_PAIRS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)


@helper
def _avalanche(h: np.uint64) -> np.uint64:
    h ^= h >> _37
    h *= _MIX_1
    return h ^ (h >> _32)


@helper
def _old_avalanche(h: np.uint64) -> np.uint64:
    h ^= h >> _33
    h *= _PRIME_2
    h ^= h >> _29
    h *= _PRIME_3
    return h ^ (h >> _32)


@helper
def _reversed(h: np.uint64) -> np.uint64:
    h = ((h & _ODD_BYTES) << _8) | ((h >> _8) & _ODD_BYTES)
    h = ((h & _ODD_PAIRS) << _16) | ((h >> _16) & _ODD_PAIRS)
    return (h << _32) | (h >> _32)


@helper
def _mixed(at: Integer, low: np.uint64, high: np.uint64, seed: np.uint64) -> np.uint64:
    return folded(word(at) ^ (low + seed), word(at + 8) ^ (high - seed))


@helper
def digest(at: Integer, size: Integer, seed: np.uint64) -> np.uint64:
    """Of the `size` ≤ 128 bytes at the address `at`; eight more can be read behind the first."""
    n = np.uint64(size)
    if size > 16:
        acc = n * _PRIME_1
        end = at + size
        if size > 32:
            if size > 64:
                if size > 96:
                    acc += _mixed(at + 48, _S12, _S13, seed)
                    acc += _mixed(end - 64, _S14, _S15, seed)
                acc += _mixed(at + 32, _S8, _S9, seed)
                acc += _mixed(end - 48, _S10, _S11, seed)
            acc += _mixed(at + 16, _S4, _S5, seed)
            acc += _mixed(end - 32, _S6, _S7, seed)
        acc += _mixed(at, _S0, _S1, seed)
        acc += _mixed(end - 16, _S2, _S3, seed)
        return _avalanche(acc)
    if size > 8:
        low = word(at) ^ (_LOW + seed)
        high = word(at + size - 8) ^ (_HIGH - seed)
        return _avalanche(n + _reversed(low) + high + folded(low, high))
    if size >= 4:
        first, last = word(at) & _LOWER, word(at + size - 4) & _LOWER
        seed ^= _reversed(seed & _LOWER)
        h = (last + (first << _32)) ^ (_FEW - seed)
        h ^= ((h << _49) | (h >> _15)) ^ ((h << _24) | (h >> _40))
        h *= _MIX_2
        h ^= (h >> _35) + n
        h *= _MIX_2
        return h ^ (h >> _28)
    if size > 0:
        first, middle, last = np.uint64(byte(at)), np.uint64(byte(at + (size >> 1))), np.uint64(byte(at + size - 1))
        return _old_avalanche(((first << _16) | (middle << _24) | last | (n << _8)) ^ (_SHORT + seed))
    return _old_avalanche(seed ^ _NOTHING)
