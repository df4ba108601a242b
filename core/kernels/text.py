"""JSON at an address, as helpers: where its parts end. Only what is certain is told; -1 says that somebody else has to look.

Places count from an address `base`. What stands behind `end` is another record's, so every loop stops there; sixteen bytes behind it
can be read.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from core.kernels import Integer, helper
from core.kernels.memory import byte, word, zeros
from core.kernels.numbers import MINUS, ZERO, number

QUOTE, BACKSLASH, COMMA, COLON = (ord(c) for c in '"\\,:')
OPEN, CLOSE, FIRST, LAST = (ord(c) for c in "{}[]")
_SPACE, _TAB, _LINE, _RETURN = (ord(c) for c in " \t\n\r")
_F = ord("f")
_TRUE, _FALSE, _NULL = (np.uint64(int.from_bytes(c, "little")) for c in (b"true", b"alse", b"null"))
_FOUR = np.uint64(0xFFFFFFFF)
_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _BACKSLASHES, _SPACES = (_ONES * np.uint64(c) for c in (QUOTE, BACKSLASH, _SPACE))
_ONE, _NONE = np.uint64(1), np.uint64(0)
DEEPEST: Final = 60
"""Objects and arrays within each other; what goes deeper somebody else has to look at."""
ASCII = np.uint64(0x8080808080808080)
"""For `closing`: bytes with these bits are not certain."""
ANY = np.uint64(0)


@helper
def blank(base: Integer, at: Integer, end: Integer) -> Integer:
    """Behind the white space at `at`."""
    while at < end:
        c = byte(base + at)
        if c > _SPACE or not (c == _SPACE or c == _LINE or c == _RETURN or c == _TAB):
            break
        at += 1
    return at


@helper
def closing(base: Integer, at: Integer, end: Integer, odd: np.uint64) -> Integer:
    """Place of the quote that closes the string whose content begins at `at`; -1 where there is an escape, a control character or, if
    `odd` is `ASCII`, anything else than ASCII in it.
    """
    while at < end:
        w = word(base + at)
        q, b = w ^ _QUOTES, w ^ _BACKSLASHES
        # The lowest bit that is set is right; those above it need not be, for a difference borrows from the next byte.
        found = (((q - _ONES) & ~q) | ((b - _ONES) & ~b) | ((w - _SPACES) & ~w) | (w & odd)) & _HIGHS
        if found != _NONE:
            at += zeros(found) >> 3
            return at if at < end and byte(base + at) == QUOTE else -1
        at += 8
    return -1


@helper
def utf8(base: Integer, at: Integer, end: Integer) -> bool:
    """Whether the bytes from `at` to `end` are UTF-8, as Python reads it: no longer than need be, no surrogates."""
    while at < end:
        c = byte(base + at)
        at += 1
        if c < 0x80:
            continue
        if c < 0xC2 or c > 0xF4:
            return False
        more = 1 if c < 0xE0 else (2 if c < 0xF0 else 3)
        if at + more > end:
            return False
        d = byte(base + at)
        if c == 0xE0 or c == 0xED or c == 0xF0 or c == 0xF4:
            if (
                (c == 0xE0 and d < 0xA0)
                or (c == 0xED and d > 0x9F)
                or (c == 0xF0 and d < 0x90)
                or (c == 0xF4 and d > 0x8F)
            ):
                return False
        for i in range(more):
            d = byte(base + at + i)
            if d < 0x80 or d > 0xBF:
                return False
        at += more
    return True


@helper
def ended(base: Integer, at: Integer, end: Integer) -> Integer:
    """Place of the quote that closes the text whose content begins at `at`; -1 where there is an escape, or what is no text, in it."""
    stop = closing(base, at, end, ASCII)
    if stop < 0:
        stop = closing(base, at, end, ANY)
        if stop >= 0 and not utf8(base, at, stop):
            stop = np.int64(-1)
    return stop


@helper
def literal(base: Integer, at: Integer) -> Integer:
    """Behind `true`, `false` or `null` at `at`, which may be behind the end."""
    four = word(base + at) & _FOUR
    if four == _TRUE or four == _NULL:
        return at + 4
    return at + 5 if word(base + at + 1) & _FOUR == _FALSE and byte(base + at) == _F else -1


@helper
def named(base: Integer, at: Integer, end: Integer) -> Integer:
    """From the name of an object's member at `at` to its value."""
    if at >= end or byte(base + at) != QUOTE:
        return -1
    at = closing(base, at + 1, end, ANY) + 1
    if at == 0:
        return -1
    at = blank(base, at, end)
    if at >= end or byte(base + at) != COLON:
        return -1
    return blank(base, at + 1, end)


@helper
def skipped(base: Integer, at: Integer, end: Integer) -> Integer:
    """Behind the value at `at`, whatever it is."""
    depth, objects = 0, _NONE
    while at < end:
        c = byte(base + at)
        if c == QUOTE:
            at = closing(base, at + 1, end, ANY) + 1
            if at == 0:
                return -1
        elif c == OPEN or c == FIRST:
            depth += 1
            if depth > DEEPEST:
                return -1
            objects = (objects << _ONE) | (_ONE if c == OPEN else _NONE)
            at = blank(base, at + 1, end)
            if at >= end:
                return -1
            if c == FIRST and byte(base + at) != LAST:
                continue
            if c == OPEN and byte(base + at) != CLOSE:
                at = named(base, at, end)
                if at < 0:
                    return -1
                continue
            depth -= 1
            objects >>= _ONE
            at += 1
        elif c == MINUS or ZERO <= c < ZERO + 10:
            at = number(base, at, end)
        else:
            at = literal(base, at)
        if at < 0:
            return -1
        while depth:
            at = blank(base, at, end)
            if at >= end:
                return -1
            c = byte(base + at)
            if c == COMMA:
                at = blank(base, at + 1, end)
                if objects & _ONE != _NONE:
                    at = named(base, at, end)
                    if at < 0:
                        return -1
                break
            if c != (CLOSE if objects & _ONE != _NONE else LAST):
                return -1
            depth -= 1
            objects >>= _ONE
            at += 1
        else:
            return at
    return -1
