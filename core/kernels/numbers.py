"""Numbers as they are written in JSON, as helpers; -1 where that is not certain."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.kernels import Integer, helper
from core.kernels.memory import byte

MINUS, PLUS, POINT, ZERO = (ord(c) for c in "-+.0")
_SMALL_E, _LARGE_E = ord("e"), ord("E")
MOST_DIGITS: Final = 15
"""A double holds every number of so many digits."""
_POWERS = tuple(10.0**n for n in range(MOST_DIGITS + 1))


@helper
def digits(base: Integer, at: Integer, end: Integer) -> Integer:
    """Behind the digits at `at`."""
    while at < end and ZERO <= byte(base + at) < ZERO + 10:
        at += 1
    return at


@helper
def number(base: Integer, at: Integer, end: Integer) -> Integer:
    """Behind the number at `at`."""
    if at < end and byte(base + at) == MINUS:
        at += 1
    whole = at
    at = digits(base, at, end)
    if at == whole or (byte(base + whole) == ZERO and at > whole + 1):
        return -1
    if at < end and byte(base + at) == POINT:
        part = at + 1
        at = digits(base, part, end)
        if at == part:
            return -1
    if at < end and (byte(base + at) == _SMALL_E or byte(base + at) == _LARGE_E):
        at += 1
        if at < end and (byte(base + at) == PLUS or byte(base + at) == MINUS):
            at += 1
        part = at
        at = digits(base, part, end)
        if at == part:
            return -1
    return at


@helper
def whole(base: Integer, at: Integer, end: Integer) -> Integer:
    """The number that the digits from `at` to `end` say; -1 for none, too many, or a zero before others."""
    size = end - at
    if size < 1 or size > MOST_DIGITS or (size > 1 and byte(base + at) == ZERO):
        return -1
    found = 0
    for i in range(at, end):
        found = found * 10 + byte(base + i) - ZERO
    return found


@helper
def decimal(base: Integer, at: Integer, end: Integer) -> float:
    """The number from `at` to `end`, which `number` has found and which has no sign; -1 for one that takes rounding: too many
    digits, or an exponent.
    """
    count: Integer = 0
    found: Integer = np.int64(0)
    behind: Integer = np.int64(-1)
    for i in range(at, end):
        c = byte(base + i)
        if c == POINT:
            behind = 0
        elif c < ZERO or c > ZERO + 9 or count == MOST_DIGITS:
            return -1.0
        else:
            found = found * 10 + c - ZERO
            count += 1
            if behind >= 0:
                behind += 1
    # Both are exact, so that their quotient is the nearest double there is.
    return float(found) / _POWERS[behind if behind > 0 else 0]
