"""Parsing one partition's part of a fetch: positions, markers, aborted transactions, spoiled batches, joining."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from tests.transport.test_framing import store
from transport.blocks import Block
from transport.fetching import Fetching, PartitionBlocks

TP = TopicPartition("t", 3)
ABORT, COMMIT = 0, 1


def stamp(stored: bytes, *, producer: int, attributes: int) -> bytes:
    """The batch as written by a transactional producer, checksum and all."""
    raw = bytearray(stored)
    struct.pack_into(">h", raw, 21, attributes)
    struct.pack_into(">q", raw, 43, producer)
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def rows(first: int, *values: bytes | None) -> bytes:
    return seal(store([(i, 5, b"k%d" % (first + i), value, []) for i, value in enumerate(values)], base=first))


def seal(stored: bytes) -> bytes:
    raw = bytearray(stored)
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def marker(offset: int, producer: int, kind: int) -> bytes:
    return stamp(
        store([(0, 5, struct.pack(">hh", 0, kind), b"\0" * 6, [])], base=offset), producer=producer, attributes=0x30
    )


def blocks(
    raw: bytes, position: int = 0, *, shared: Fetching | None = None, aborted: Sequence[tuple[int, int]] = ()
) -> tuple[list[Block], int]:
    shared = shared or Fetching(batch_rows=1000, refetches=2, records=False)
    plain = PartitionRecords(TP, None, aborted, position, None, None, True, READ_COMMITTED)
    parser = PartitionBlocks(plain, raw, 99, shared)
    return list(parser), parser.next_fetch_offset


def values(found: list[Block]) -> list[bytes | None]:
    return [value for block in found for value in block.values]


def test_joins_stored_batches_and_keeps_keys() -> None:
    found, position = blocks(rows(0, b"a", b"b") + rows(2, b"c", None))
    assert len(found) == 1 and position == 4
    block = found[0]
    assert (list(block.values), block.offsets.tolist()) == ([b"a", b"b", b"c", None], [0, 1, 2, 3])
    assert [block.keys.key(row) for row in range(4)] == [b"k0", b"k1", b"k2", b"k3"]
    assert (block.topic, block.partition, block.start, block.next_offset, block.end) == ("t", 3, 0, 4, 99)


def test_first_batch_may_begin_before_the_position() -> None:
    found, position = blocks(rows(0, b"a", b"b", b"c") + rows(3, b"d"), position=2)
    assert values(found) == [b"c", b"d"] and position == 4
    assert [found[0].keys.key(row) for row in range(2)] == [b"k2", b"k3"]


def test_a_cut_off_last_batch_is_left_for_the_next_fetch() -> None:
    found, position = blocks(rows(0, b"a") + rows(1, b"b")[:-1])
    assert values(found) == [b"a"] and position == 1


def test_splits_at_the_row_limit_on_a_stored_batch() -> None:
    shared = Fetching(batch_rows=3, refetches=2, records=False)
    found, _ = blocks(rows(0, b"a", b"b") + rows(2, b"c", b"d") + rows(4, b"e"), shared=shared)
    assert [list(block.values) for block in found] == [[b"a", b"b", b"c", b"d"], [b"e"]]
    assert [(block.start, block.next_offset) for block in found] == [(0, 4), (4, 5)]


@pytest.mark.parametrize("records", [False, True], ids=["columns", "records"])
def test_splits_at_the_bytes_that_stored_batches_hold_when_inflated(records: bool) -> None:
    """Pages of zeros shrink a thousandfold in the log: one fetch of two megabytes has been gigabytes in memory."""
    raw = b""
    for offset in range(40):
        builder = DefaultRecordBatchBuilder(2, 4, 0, -1, -1, -1, 2 << 20)
        builder.append(0, 5, b"page", bytes(1 << 20), [])
        stored = bytearray(builder.build())
        struct.pack_into(">q", stored, 0, offset)
        raw += seal(bytes(stored))
    assert len(raw) < 100_000
    shared = Fetching(batch_rows=1 << 30, refetches=0, records=records, block_bytes=4 << 20)
    found, position = blocks(raw, shared=shared)
    assert position == 40 and [len(block) for block in found] == [4] * 10


def test_aborted_transactions_and_markers_have_no_rows_but_move_the_position() -> None:
    dead = stamp(rows(2, b"x", b"y"), producer=7, attributes=0x10)
    live = stamp(rows(4, b"ok"), producer=8, attributes=0x10)
    raw = rows(0, b"a", b"b") + dead + live + marker(5, 7, ABORT) + marker(6, 8, COMMIT)
    again = stamp(rows(7, b"after"), producer=7, attributes=0x10) + marker(8, 7, COMMIT)
    found, position = blocks(raw + again, aborted=[(7, 2)])
    assert values(found) == [b"a", b"b", b"ok", b"after"] and position == 9
    assert found[0].offsets.tolist() == [0, 1, 4, 7]
    alone, position = blocks(marker(9, 8, COMMIT), position=9)
    assert position == 10 and len(alone) == 1 and not len(alone[0]) and alone[0].next_offset == 10


def test_compaction_leaves_holes_and_empty_batches() -> None:
    holes = seal(store([(1, 5, b"k", b"b", []), (4, 5, b"k", b"e", [])], base=10))
    empty = bytearray(seal(store([(9, 5, b"k", b"gone", [])], base=20)))[:61]
    struct.pack_into(">i", empty, 8, 49)
    struct.pack_into(">i", empty, 57, 0)
    found, position = blocks(holes + seal(bytes(empty)), position=10)
    assert values(found) == [b"b", b"e"] and found[0].offsets.tolist() == [11, 14] and position == 30


def test_wrong_checksum_is_fetched_again_then_set_aside_and_nothing_else_disturbed() -> None:
    good, bad, after = rows(0, b"a"), bytearray(rows(1, b"bad", b"bad")), rows(3, b"z")
    bad[-1] ^= 0xFF
    raw = good + bytes(bad) + after
    shared = Fetching(batch_rows=1000, refetches=2, records=False)
    found, position = blocks(raw, shared=shared)
    assert values(found) == [b"a"] and position == 1
    for _ in range(1):
        found, position = blocks(bytes(bad) + after, position=1, shared=shared)
        assert not found and position == 1
    found, position = blocks(bytes(bad) + after, position=1, shared=shared)
    assert values(found) == [b"z"] and position == 4
    (spoiled,) = found[0].spoiled
    assert (spoiled.reason, spoiled.offset, spoiled.next_offset) == ("corrupt_batch", 1, 3)
    assert spoiled.stored == bytes(bad) and not shared.retries


def test_unknown_codec_is_set_aside_at_once() -> None:
    odd = bytearray(rows(1, b"x"))
    struct.pack_into(">h", odd, 21, 0x06)
    odd = bytearray(seal(bytes(odd)))
    found, position = blocks(rows(0, b"a") + bytes(odd) + rows(2, b"c"))
    assert values(found) == [b"a", b"c"] and position == 3
    assert [(s.reason, s.stored) for s in found[0].spoiled] == [("unknown_codec", bytes(odd))]


def test_payload_that_does_not_decompress_is_set_aside() -> None:
    packed = bytearray(store([(0, 5, b"k", b"v" * 500, [])], codec=3, base=0))
    packed[70:90] = b"\xff" * 20
    found, position = blocks(seal(bytes(packed)) + rows(1, b"b"))
    assert values(found) == [b"b"] and position == 2 and found[0].spoiled[0].reason == "corrupt_batch"


def test_slow_twin_gives_the_same_blocks() -> None:
    raw = rows(0, b"a", None) + stamp(rows(2, b"x"), producer=7, attributes=0x10) + marker(3, 7, ABORT) + rows(4, b"b")
    fast, slow = (
        blocks(raw, aborted=[(7, 2)], shared=Fetching(batch_rows=1000, refetches=2, records=records))[0]
        for records in (False, True)
    )
    assert values(fast) == values(slow) == [b"a", None, b"b"]
    assert fast[0].offsets.tolist() == slow[0].offsets.tolist()
    assert [fast[0].keys.key(row) for row in range(3)] == [slow[0].keys.key(row) for row in range(3)]
