"""One stored record batch (Kafka's format v2) → columns, without an object per record.

A compiled loop (`core.kernels.framing`) finds where the fields of all records stand and checks every length on its way. Values and
keys stay where they are until someone asks. `plain.py` is the slow twin.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from core.batch import Headers, Int64s, Piece, Values
from core.framed import BEYOND, LEFT_OVER, TOO_LONG

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and last timestamp, producer id and
epoch, base sequence, count."""
LENGTH_END: Final = 12
"""`length` counts from here."""

SMALLEST_RECORD: Final = 7
"""Bytes: length, attributes, two deltas, no key, no value, no headers."""
_REASONS: Final = {
    TOO_LONG: "a number has more than ten bytes",
    BEYOND: "a field ends beyond its record, or a record beyond the payload",
    LEFT_OVER: "a record does not end where the next one begins",
}
Headed = dict[int, Headers]


class Keys(Protocol):
    """The keys of some rows."""

    def key(self, row: int) -> bytes | None:
        """The key of one row."""


class Columns(NamedTuple):
    """The rows of one stored batch."""

    offsets: Int64s
    timestamps: Int64s
    pieces: Sequence[Piece]
    keys: Keys
    headed: Headed
    size: int
    """Bytes of its payload, inflated: the rows' values and keys keep all of it in memory."""

    @property
    def values(self) -> Values:
        """The rows' values."""
        return Values(self.pieces)


@dataclass(frozen=True, slots=True)
class _KeysInPlace:
    payload: bytes
    spans: Int64s

    def key(self, row: int) -> bytes | None:
        start, end = self.spans[row].tolist()
        return None if end < start else self.payload[start:end]


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """What the first 61 bytes of a stored batch say."""

    base_offset: int
    size: int
    """Bytes of the whole batch."""
    magic: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    count: int

    @property
    def next_offset(self) -> int:
        """The offset after the batch, kept by Kafka even where compaction removed its last rows."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def is_control(self) -> bool:
        """A transaction marker."""
        return bool(self.attributes & 0x20)

    @property
    def is_transactional(self) -> bool:
        """Part of a transaction."""
        return bool(self.attributes & 0x10)

    @property
    def append_time(self) -> bool:
        """The broker stamped the batch (LogAppendTime)."""
        return bool(self.attributes & 0x08)


def read_header(stored: bytes) -> StoredHeader:
    """The header of a stored batch of format v2."""
    base, length, _, magic, _, attributes, delta, first, last, producer, _, _, count = HEADER.unpack_from(stored)
    return StoredHeader(base, length + LENGTH_END, magic, attributes, delta, first, last, producer, count)


@functools.cache
def _walk() -> Callable[..., int]:
    """Loaded with the first rows: a compiler comes with it, and whoever only asks what there is needs none."""
    from core.kernels.framing import walk

    return walk


def frame(stored: bytes, header: StoredHeader) -> Columns:
    """The rows of a stored batch.

    Raises `UnsupportedCodecError` for a codec that nobody knows or that is not installed, and
    `CorruptRecordException` where the rows do not fill the payload exactly.
    """
    try:
        payload = _decompress(stored[HEADER.size :], header.attributes & 0x07)
        return _frame(payload, header)
    except (UnsupportedCodecError, CorruptRecordException):
        raise
    except Exception as error:  # whatever a decompressor or an index beyond the payload raises
        raise CorruptRecordException(f"stored batch at offset {header.base_offset}: {error}") from error


def _frame(payload: bytes, header: StoredHeader) -> Columns:
    if header.count < 0 or header.count * SMALLEST_RECORD > len(payload):
        raise CorruptRecordException(f"{len(payload)} bytes cannot hold {header.count} records")
    count = header.count
    offsets, timestamps = np.empty(count, np.int64), np.empty(count, np.int64)
    keys, values, places = (
        np.empty((count, 2), np.int64),
        np.empty((count, 2), np.int64),
        np.empty((count, 2), np.int64),
    )
    stamped = header.append_time
    time = header.max_timestamp if stamped else header.first_timestamp
    raw = np.frombuffer(payload, np.uint8)
    found = _walk()(raw, count, header.base_offset, time, stamped, offsets, timestamps, keys, values, places)
    if found < 0:
        raise CorruptRecordException(_REASONS[found])
    headed: Headed = {}
    if found:
        headed = {row: _headers(payload, *places[row, ::-1].tolist()) for row in np.flatnonzero(places[:, 0]).tolist()}
    return Columns(offsets, timestamps, [Piece(payload, values)], _KeysInPlace(payload, keys), headed, len(payload))


def _decompress(payload: bytes, codec: int) -> bytes:
    match codec:
        case 0:
            return payload
        case 1:
            return bytes(gzip_decode(payload))
        case 2:
            return bytes(snappy_decode(payload))
        case 3:
            return bytes(lz4_decode(payload))
        case 4:
            return bytes(zstd_decode(payload))
        case _:
            raise UnsupportedCodecError(f"compression codec {codec} is unknown")


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = payload[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift > 63:
            raise CorruptRecordException("a number has more than ten bytes")


def _headers(payload: bytes, at: int, count: int) -> Headers:
    headers: list[tuple[str, bytes]] = []
    for _ in range(count):
        size, at = _varint(payload, at)
        name = payload[at : at + size].decode()
        at += size
        size, at = _varint(payload, at)
        headers.append((name, payload[at : at + size] if size > 0 else b""))
        at += max(size, 0)
    return headers
