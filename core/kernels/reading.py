"""Events from the bytes they came as: a row's own fields as numbers and places, without an object of Python.

Only what is plain is read: an object of text without escapes, its known fields each once and of their own type. Nobody is refused
here; a row that is anything else is left to `core.meter.decode`, which reads it as it always did.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, kernel
from core.kernels.digest import LONGEST, digest
from core.kernels.fields import (
    ATTRIBUTION,
    ENVELOPE,
    FAILED,
    ID,
    LATENCY,
    LENGTH,
    MARGIN,
    MISSED,
    NAMED,
    ODD,
    ORGANIC,
    PART,
    PLAIN,
    PROPERTIES,
    STATE,
    STATUS,
    TEXTS,
    TIME,
    UNKNOWN,
    USER,
    VERSION,
    WHEN,
)  # fmt: skip
from core.kernels.memory import byte, word
from core.kernels.moments import moment
from core.kernels.names import code_of, organic
from core.kernels.numbers import MINUS, ZERO, decimal, digits, number, whole
from core.kernels.text import ANY, ASCII, CLOSE, COLON, COMMA, OPEN, QUOTE, blank, closing, ended, literal, skipped

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)
_N, _T, _F = (ord(c) for c in "ntf")
_ONE_ = ZERO + 1
_SERVER_ERROR = 500


@kernel(
    "void(Array(u1,1,'C',readonly=True), i8[:,::1], i8, u1[::1], u8[:,::1], i8[::1], i8, i8, u8, u8,"
    "u8[::1], i8[:,::1], u4[::1], u1[::1], i8[:,::1], i4[:,:,::1], u8[:,::1], f8[::1])"
)
def read(
    raw: Bytes,
    spans: Int64s,
    largest: Integer,
    scratch: Bytes,
    names: UInt64s,
    fields: Int64s,
    required: Integer,
    either: Integer,
    ids: np.uint64,
    users: np.uint64,
    keys: UInt64s,
    places: Int64s,
    slots: UInt32s,
    arena: Bytes,
    figures: Int64s,
    texts: Int32s,
    hashes: UInt64s,
    latencies: Floats,
) -> None:
    """Read the rows that stand in `raw` from `spans[:, 0]` to `spans[:, 1]`, those that have at most `largest` bytes.

    `names` are the known fields' names in the order in which they usually come: two words, masks and words of name and quote
    together, one after the other, and the size. `fields` are their numbers; a row must have those whose bits are in `required`, and
    one of `either`. `ids` and `users` are seeds. `keys`, `places` (start, size and field, code), `slots` and `arena` are the table of
    names. Filled: `figures`, a line a figure; `texts`, where a row's texts stand in it, as start and size (-1: there is none);
    `hashes` of ids and users; `latencies`.
    """
    origin, size = np.int64(raw.ctypes.data), np.int64(len(raw))
    count = len(fields)
    for row in range(len(spans)):
        start, end = spans[row, 0], spans[row, 1] - spans[row, 0]
        figures[STATE, row] = ODD
        figures[TIME, row] = -1
        if end <= 0 or end > largest:
            continue
        base = origin + start
        if start + end + MARGIN > size:
            if end + MARGIN > len(scratch):
                continue
            for i in range(end):
                scratch[i] = raw[start + i]
            base = np.int64(scratch.ctypes.data)
        for text in range(TEXTS):
            texts[row, text, 1] = -1
        time: Integer = np.int64(-1)
        failed: Integer = np.int64(0)
        part: Integer = np.int64(0)
        length: Integer = np.int64(0)
        latency = -1.0
        seen: Integer = np.int64(0)
        expected: Integer = np.int64(0)
        plain = False
        at = blank(base, 0, end)
        if byte(base + at) != OPEN:
            continue
        at = blank(base, at + 1, end)
        while True:
            if at >= end or byte(base + at) != QUOTE:
                break
            at += 1
            field: Integer = np.int64(UNKNOWN)
            first, second = word(base + at), word(base + at + 8)
            if first & names[expected, 2] == names[expected, 3] and second & names[expected, 4] == names[expected, 5]:
                field = fields[expected]
                stop = at + np.int64(names[expected, 6])
                expected = expected + 1 if expected + 1 < count else 0
            else:
                stop = closing(base, at, end, ANY)
                if stop < 0:
                    break
                n = stop - at
                if 0 < n <= 16:
                    if n <= 8:
                        first &= _ALL >> np.uint64(64 - 8 * n)
                        second = _NONE
                    else:
                        second &= _ALL >> np.uint64(128 - 8 * n)
                    for j in range(count):
                        if names[j, 0] == first and names[j, 1] == second:
                            field = fields[j]
                            expected = j + 1 if j + 1 < count else 0
                            break
            at = blank(base, stop + 1, end)
            if byte(base + at) != COLON:
                break
            at = blank(base, at + 1, end)
            if at >= end:
                break
            c = byte(base + at)
            if field == UNKNOWN:
                if c == QUOTE:
                    at = closing(base, at + 1, end, ANY) + 1
                    if at == 0:
                        break
                else:
                    at = skipped(base, at, end)
                    if at < 0:
                        break
            elif field == ENVELOPE or (seen >> field) & 1:
                break
            else:
                seen |= 1 << field
                if c == _N and field != WHEN and field != VERSION and field != LATENCY:
                    # Of a field that must be there, no null is taken.
                    if (required >> field) & 1:
                        break
                    at = literal(base, at)
                    if at < 0:
                        break
                    seen &= ~(1 << field)
                elif field < TEXTS:
                    if c != QUOTE:
                        break
                    stop = ended(base, at + 1, end)
                    n = stop - at - 1
                    if n < 1 or n > LONGEST:
                        break
                    texts[row, field, 0], texts[row, field, 1] = at + 1, n
                    at = stop + 1
                elif field == WHEN:
                    if c == QUOTE:
                        stop = closing(base, at + 1, end, ASCII)
                        if stop < 0:
                            break
                        time = moment(base, at + 1, stop)
                        at = stop + 1
                    else:
                        stop = digits(base, at, end)
                        time = whole(base, at, stop)
                        at = stop
                    if time < 0:
                        break
                elif field == PROPERTIES:
                    if c != OPEN:
                        break
                    at = skipped(base, at, end)
                    if at < 0:
                        break
                elif field == VERSION:
                    if c == QUOTE:
                        if byte(base + at + 1) != _ONE_ or byte(base + at + 2) != QUOTE:
                            break
                        at += 3
                    else:
                        if c != _ONE_:
                            break
                        at += 1
                elif field == LATENCY:
                    if c == MINUS:
                        break
                    stop = number(base, at, end)
                    if stop < 0:
                        break
                    latency = decimal(base, at, stop)
                    if latency < 0:
                        part, length = at, stop - at
                    at = stop
                elif field == STATUS:
                    stop = digits(base, at, end)
                    status = whole(base, at, stop)
                    if status < 100 or status > 599:
                        break
                    if status >= _SERVER_ERROR:
                        failed = 1
                    at = stop
                else:
                    if c == QUOTE:
                        stop = ended(base, at + 1, end)
                        if stop < 0:
                            break
                        if stop > at + 1:
                            failed = 1
                        at = stop + 1
                    else:
                        if c == _T:
                            failed = 1
                        elif c != _F:
                            break
                        at = literal(base, at)
                        if at < 0:
                            break
            at = blank(base, at, end)
            c = byte(base + at)
            if c == COMMA:
                at = blank(base, at + 1, end)
            else:
                plain = c == CLOSE and blank(base, at + 1, end) == end
                break
        if not plain or (seen & required) != required or (either != 0 and (seen & either) == 0):
            continue
        n = np.int64(texts[row, ATTRIBUTION, 1])
        led = organic(base + texts[row, ATTRIBUTION, 0], n) if n > 0 else np.int64(1)
        if led < 0:
            continue
        state = PLAIN
        for name in range(NAMED):
            n = np.int64(texts[row, name, 1])
            code: Integer = np.int64(0)
            if n > 0:
                code = code_of(base, np.int64(texts[row, name, 0]), n, name, keys, places, slots, arena)
                if code < 0:
                    state = MISSED
            figures[name, row] = code
        hashes[0, row] = digest(base + texts[row, ID, 0], np.int64(texts[row, ID, 1]), ids)
        n = np.int64(texts[row, USER, 1])
        hashes[1, row] = digest(base + texts[row, USER, 0], n, users) if n > 0 else _NONE
        figures[STATE, row], figures[TIME, row], figures[ORGANIC, row] = state, time, led
        figures[FAILED, row], figures[PART, row], figures[LENGTH, row] = failed, part, length
        latencies[row] = latency
