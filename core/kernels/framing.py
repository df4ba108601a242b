"""The records of one stored batch (Kafka's format v2): where their fields stand.

A record is length, attributes, timestamp delta, offset delta, key length, key, value length, value, count of headers, headers; all
numbers but the attributes are zigzag varints. Nothing is read beyond the payload, whatever it says.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.framed import BEYOND, LEFT_OVER, TOO_LONG
from core.kernels import Integer, inlined, kernel

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]


@inlined
def _varint(raw: Bytes, at: Integer, end: Integer) -> tuple[Integer, Integer]:
    """(the number at `at`, the place behind it or a negative reason)."""
    number = np.uint64(0)
    shift = np.uint64(0)
    while True:
        if at >= end:
            at = BEYOND
            break
        byte = np.uint64(raw[at])
        number |= (byte & np.uint64(0x7F)) << shift
        at += 1
        if byte < np.uint64(0x80):
            break
        shift += np.uint64(7)
        if shift > np.uint64(63):
            at = TOO_LONG
            break
    return np.int64(number >> np.uint64(1)) ^ -np.int64(number & np.uint64(1)), at


@kernel("i8(Array(u1, 1, 'C', readonly=True), i8, i8, i8, b1, i8[::1], i8[::1], i8[:,::1], i8[:,::1], i8[:,::1])")
def walk(
    raw: Bytes,
    count: Integer,
    base: Integer,
    time: Integer,
    stamped: bool,
    offsets: Int64s,
    timestamps: Int64s,
    keys: Int64s,
    values: Int64s,
    headers: Int64s,
) -> Integer:
    """Fill, for each of `count` records of a batch whose first offset and time these are (`stamped`: the time of all): its offset, its
    timestamp, start and end of its key and of its value (an end before its start: there is none), number of its headers and
    their place. How many have headers, or a reason why not.
    """
    at = np.int64(0)
    size = np.int64(len(raw))
    headed = np.int64(0)
    for row in range(count):
        length, at = _varint(raw, at, size)
        if at < 0:
            return at
        if length < 1 or length > size - at:
            return BEYOND
        end = at + length
        at += 1
        stamp, at = _varint(raw, at, end)
        if at < 0:
            return at
        delta, at = _varint(raw, at, end)
        if at < 0:
            return at
        timestamps[row] = time if stamped else time + stamp
        offsets[row] = base + delta
        for field in range(2):
            length, at = _varint(raw, at, end)
            if at < 0:
                return at
            if length > end - at:
                return BEYOND
            spans = keys if field == 0 else values
            spans[row, 0] = at
            spans[row, 1] = at + length if length >= 0 else np.int64(-1)
            if length > 0:
                at += length
        many, at = _varint(raw, at, end)
        if at < 0:
            return at
        if many < 0 or many > end - at:
            return BEYOND
        headers[row, 0], headers[row, 1] = many, at
        if many == 0 and at != end:
            return LEFT_OVER
        headed += many > 0
        for header in range(2 * many):
            length, at = _varint(raw, at, end)
            if at < 0:
                return at
            if length > end - at or (length < 0 and header % 2 == 0):
                return BEYOND
            if length > 0:
                at += length
        if at != end:
            return LEFT_OVER
    return headed if at == size else np.int64(LEFT_OVER)
