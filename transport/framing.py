"""One stored record batch (Kafka's format v2) → columns, without an object per record.

Only the chain of record lengths is walked in Python, one varint a record; every other field is read for all records at
once. Values are sliced out, keys stay where they are until someone asks. `plain.py` is the slow twin.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from core.batch import Headers, Int64s

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and last timestamp, producer id and
epoch, base sequence, count."""
LENGTH_END: Final = 12
"""`length` counts from here."""

Bytes = npt.NDArray[np.uint8]
Headed = dict[int, Headers]


class Keys(Protocol):
    """The keys of some rows."""

    def key(self, row: int) -> bytes | None:
        """The key of one row."""


class Columns(NamedTuple):
    """The rows of one stored batch."""

    offsets: Int64s
    timestamps: Int64s
    values: list[bytes | None]
    keys: Keys
    headed: Headed


@dataclass(frozen=True, slots=True)
class _KeysInPlace:
    payload: bytes
    starts: Int64s
    lengths: Int64s

    def key(self, row: int) -> bytes | None:
        length = int(self.lengths[row])
        start = int(self.starts[row])
        return None if length < 0 else self.payload[start : start + length]


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
    raw = np.frombuffer(payload, dtype=np.uint8)
    begins = _walk(payload, header.count)
    at = begins + 1  # the record's own attributes, one unused byte
    stamps, at = _varints(raw, at)
    deltas, at = _varints(raw, at)
    key_lengths, key_starts = _varints(raw, at)
    value_lengths, value_starts = _varints(raw, key_starts + np.maximum(key_lengths, 0))
    value_ends = value_starts + np.maximum(value_lengths, 0)
    header_counts, ends = _varints(raw, value_ends)
    headed: Headed = {}
    for row in np.flatnonzero(header_counts).tolist():
        headed[row], ends[row] = _headers(payload, int(ends[row]), int(header_counts[row]))
    _check_chain(raw, begins, ends)
    values: list[bytes | None] = [
        payload[start:end] for start, end in zip(value_starts.tolist(), value_ends.tolist(), strict=True)
    ]
    for row in np.flatnonzero(value_lengths < 0).tolist():
        values[row] = None
    if header.append_time:
        timestamps = np.full(header.count, header.max_timestamp, dtype=np.int64)
    else:
        timestamps = stamps + header.first_timestamp
    keys = _KeysInPlace(payload, key_starts, key_lengths)
    return Columns(deltas + header.base_offset, timestamps, values, keys, headed)


def _check_chain(raw: Bytes, begins: Int64s, ends: Int64s) -> None:
    """Each record must end where the next one's length stands, and the last one where the payload ends."""
    if not len(begins):
        if raw.size:
            raise CorruptRecordException("a stored batch without records has a payload")
        return
    _, following = _varints(raw, ends[:-1])
    if int(ends[-1]) != raw.size or not np.array_equal(following, begins[1:]):
        raise CorruptRecordException("a record does not end where the next one begins")


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


def _walk(payload: bytes, count: int) -> Int64s:
    """Where each record begins, after its length. The one loop over records: keep it this small."""
    begins: list[int] = []
    begin = begins.append
    at = 0
    for _ in range(count):
        low = payload[at]
        if low < 0x80:
            at += 1
            begin(at)
            at += low >> 1
            continue
        high = payload[at + 1]
        if high < 0x80:
            at += 2
            begin(at)
            at += (low & 0x7F | high << 7) >> 1
            continue
        length, at = _varint(payload, at)
        begin(at)
        at += length
    return np.array(begins, dtype=np.int64)


def _varints(raw: Bytes, at: Int64s) -> tuple[Int64s, Int64s]:
    """The zigzag varint at each position, and the position after it."""
    low = raw[at]
    after = at + 1
    numbers = (low & 0x7F).astype(np.int64)
    more = np.flatnonzero(low & 0x80)
    shift = 7
    while more.size:
        if shift > 63:
            raise CorruptRecordException("a number has more than ten bytes")
        position = after[more]
        byte = raw[position]
        after[more] = position + 1
        numbers[more] |= (byte & 0x7F).astype(np.int64) << shift
        more = more[byte >= 0x80]
        shift += 7
    return (numbers >> 1) ^ -(numbers & 1), after


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


def _headers(payload: bytes, at: int, count: int) -> tuple[Headers, int]:
    headers: list[tuple[str, bytes]] = []
    for _ in range(count):
        size, at = _varint(payload, at)
        name = payload[at : at + size].decode()
        at += size
        size, at = _varint(payload, at)
        headers.append((name, payload[at : at + size] if size > 0 else b""))
        at += max(size, 0)
    return headers, at
