"""Times as they are written in JSON, as milliseconds since 1970, as helpers; -1 where that is not certain."""

from __future__ import annotations

from core.kernels import Integer, helper
from core.kernels.memory import byte
from core.kernels.numbers import MINUS, PLUS, POINT, ZERO, digits
from core.kernels.text import COLON

_SHORTEST, _FRACTION = 20, 6
_T, _Z = ord("T"), ord("Z")


@helper
def _two(base: Integer, at: Integer) -> Integer:
    tens, ones = byte(base + at) - ZERO, byte(base + at + 1) - ZERO
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1
    return tens * 10 + ones


@helper
def _days(year: Integer, month: Integer, day: Integer) -> Integer:
    """Days since 1970, of a day in this era: years begin in March, so that the leap day is the last one."""
    year -= month <= 2
    month = month + 9 if month <= 2 else month - 3
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1 - 719468


@helper
def _length(year: Integer, month: Integer) -> Integer:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@helper
def moment(base: Integer, at: Integer, end: Integer) -> Integer:
    """Of the RFC 3339 text from `at` to `end`, cut to the millisecond; of times from before 1970, and of shapes
    that are seldom, nothing is certain.
    """
    if end - at < _SHORTEST:
        return -1
    century, years, month, day = _two(base, at), _two(base, at + 2), _two(base, at + 5), _two(base, at + 8)
    hour, minute, second = _two(base, at + 11), _two(base, at + 14), _two(base, at + 17)
    if century < 0 or years < 0 or month < 1 or month > 12 or day < 1 or hour < 0 or minute < 0 or second < 0:
        return -1
    if byte(base + at + 4) != MINUS or byte(base + at + 7) != MINUS or byte(base + at + 10) != _T:
        return -1
    if byte(base + at + 13) != COLON or byte(base + at + 16) != COLON:
        return -1
    year = century * 100 + years
    if year < 1970 or day > _length(year, month) or hour > 23 or minute > 59 or second > 59:
        return -1
    at += 19
    millis = 0
    if byte(base + at) == POINT:
        part = at + 1
        at = digits(base, part, end)
        size = at - part
        if size < 1 or size > _FRACTION:
            return -1
        for i in range(3):
            millis = millis * 10 + (byte(base + part + i) - ZERO if i < size else 0)
    shift = 0
    c = byte(base + at)
    if c == _Z:
        at += 1
    elif c == PLUS or c == MINUS:
        if end - at != 6 or byte(base + at + 3) != COLON:
            return -1
        hours, minutes = _two(base, at + 1), _two(base, at + 4)
        if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
            return -1
        shift = (hours * 60 + minutes) * 60_000
        if c == MINUS:
            shift = -shift
        at += 6
    if at != end or (shift == 0 and c != _Z and c != PLUS and c != MINUS):
        return -1
    return ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis - shift
