"""Stored batches → columns: the fast way and aiokafka's own records say the same, byte for byte."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.framing import frame, read_header
from transport.plain import frame_records

Row = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

SOME_BYTES = st.one_of(st.none(), st.binary(max_size=40), st.binary(min_size=60, max_size=300))
HEADERS = st.lists(st.tuples(st.text(max_size=8), st.one_of(st.none(), st.binary(max_size=80))), max_size=3)
ROWS = st.lists(
    st.tuples(
        st.integers(1, 500), st.integers(-(2**40), 2**40), SOME_BYTES, SOME_BYTES, st.one_of(st.just([]), HEADERS)
    ),
    min_size=1,
    max_size=40,
)


def store(rows: list[Row], codec: int = 0, base: int = 0, append_time: int | None = None) -> bytes:
    """A stored batch as a broker keeps it: offsets from the rows (first is 0 or more), base offset stamped on."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 24)
    for offset, timestamp, key, value, headers in rows:
        assert builder.append(offset, timestamp, key, value, headers) is not None
    stored = bytearray(builder.build())
    struct.pack_into(">q", stored, 0, base)
    if append_time is not None:
        struct.pack_into(">h", stored, 21, codec | 0x08)
        struct.pack_into(">q", stored, 35, append_time)
    return bytes(stored)


def same(stored: bytes) -> None:
    fast, slow = frame(stored, read_header(stored)), frame_records(stored)
    assert fast.offsets.tolist() == slow.offsets.tolist()
    assert fast.timestamps.tolist() == slow.timestamps.tolist()
    assert list(fast.values) == list(slow.values)
    assert fast.headed == slow.headed
    rows = range(len(fast.values))
    assert [fast.keys.key(row) for row in rows] == [slow.keys.key(row) for row in rows]
    assert fast.offsets.dtype == fast.timestamps.dtype == np.int64


@settings(max_examples=200, deadline=None)
@given(ROWS, st.sampled_from([0, 1, 2, 3, 4]), st.integers(0, 2**40), st.one_of(st.none(), st.integers(0, 2**45)))
def test_parity(rows: list[Row], codec: int, base: int, append_time: int | None) -> None:
    offset, spread = 0, []
    for gap, *rest in rows:  # holes between offsets, as compaction leaves them
        spread.append((offset, *rest))
        offset += gap
    same(store(spread, codec, base, append_time))


def test_large_rows() -> None:
    same(store([(0, 1, b"k", b"x" * 1_000_000, []), (1, 2, None, b"", []), (2, 3, b"", None, [("h", b"y" * 70_000)])]))


def test_deleted_keys_take_no_more_room_than_others() -> None:
    """A row without a value is no copy of the payload behind it: ten thousand of them in half a megabyte were gigabytes."""
    rows: list[Row] = [(i, 0, b"a key of some forty bytes, as state rows are", None, []) for i in range(5_000)]
    stored = store(rows)
    header = read_header(stored)
    frame(stored, header)  # compiles its loop, once
    tracemalloc.start()
    try:
        columns = frame(stored, header)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert list(columns.values) == [None] * len(rows)
    assert peak < 10 * len(stored), f"{peak:,} bytes for {len(stored):,}"


def test_unknown_codec() -> None:
    stored = bytearray(store([(0, 1, b"k", b"v", [])]))
    struct.pack_into(">h", stored, 21, 0x07)
    with pytest.raises(UnsupportedCodecError, match="codec 7"):
        frame(bytes(stored), read_header(bytes(stored)))


@settings(max_examples=200, deadline=None)
@given(ROWS, st.data())
def test_never_reads_beyond_or_short(rows: list[Row], data: st.DataObject) -> None:
    """A payload cut anywhere, or with a count that does not fit, is corrupt: never rows that were not there."""
    stored = store([(index, *rest) for index, (_, *rest) in enumerate(rows)])
    cut = data.draw(st.integers(61, len(stored) - 1))
    with pytest.raises(CorruptRecordException):
        frame(stored[:cut], read_header(stored))
    more = bytearray(stored)
    struct.pack_into(">i", more, 57, len(rows) + 1)
    with pytest.raises(CorruptRecordException):
        frame(bytes(more), read_header(bytes(more)))
