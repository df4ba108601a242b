"""Doors of the transport: batches as brokers store them, alone and in fetches."""

from __future__ import annotations

import struct
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from tests.core.meter.logs import T0
from tests.fuzz.mutate import spoiled
from tests.fuzz.samples import EVENT, Outcome
from transport.fetching import Fetching, PartitionBlocks
from transport.framing import HEADER, frame, read_header
from transport.inflate import refuse_too_large

_FIELDS = ((0, ">q"), (8, ">i"), (16, ">b"), (21, ">h"), (23, ">i"), (27, ">q"), (35, ">q"), (43, ">q"), (57, ">i"))
_NUMBERS = (-(2**31), -1, 0, 1, 2, 13, 60, 61, 127, 128, 10**6, 2**31 - 1)


@cache
def _stored() -> list[bytes]:
    """Real batches: every codec, with and without keys, values and headers, stamped by producer and by broker."""
    random, made = Random(1), []
    for codec in range(5):
        for rows in (1, 3, 40):
            builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
            for offset in range(rows):
                value = (
                    None
                    if random.random() < 0.1
                    else orjson.dumps({**EVENT, "id": str(offset)}) * random.choice((1, 1, 5))
                )
                headers = [("h", b"v"), ("", None)] if random.random() < 0.3 else []
                builder.append(offset, T0 + offset, random.choice((None, b"acme|u1")), value, headers)
            stored = bytearray(builder.build())
            if rows == 3:
                struct.pack_into(">h", stored, 21, codec | 0x08)
            made.append(bytes(_signed(stored)))
    return made


def _signed(stored: bytearray) -> bytearray:
    if len(stored) >= HEADER.size:
        struct.pack_into(">I", stored, 17, calc_crc32c(stored[21:]))
    return stored


def _damaged_batch(random: Random) -> bytes:
    stored = bytearray(random.choice(_stored()))
    for _ in range(random.choice((0, 1, 1, 2))):
        at, form = random.choice(_FIELDS)
        number = random.choice(_NUMBERS)
        struct.pack_into(form, stored, at, number if form in (">i", ">q") else number % 128)
    if random.random() < 0.8:
        head, body = stored[: HEADER.size], stored[HEADER.size :]
        stored = bytearray(head + spoiled(random, bytes(body)))
    if random.random() < 0.2:
        stored = bytearray(spoiled(random, bytes(stored)))
    return bytes(_signed(stored)) if random.random() < 0.8 else bytes(stored)


def framing(random: Random, held: list[Any]) -> Outcome:
    """One stored batch, fast way and twin: columns of one length, or the two errors that are promised."""
    stored = _damaged_batch(random)
    held.append(stored)
    if len(stored) < HEADER.size:
        return {"refused": 1}
    header = read_header(stored)
    try:
        refuse_too_large(
            stored[HEADER.size :], header.attributes & 0x07
        )  # as `fetching` does before it hands a batch on
        columns = frame(stored, header)
    except (CorruptRecordException, UnsupportedCodecError):
        return {"refused": 1}
    assert len(columns.offsets) == len(columns.timestamps) == len(columns.values) == max(0, header.count)
    for row in range(len(columns.values)):
        columns.keys.key(row)
    return {"accepted": 1}


def fetching(random: Random, held: list[Any]) -> Outcome:
    """A fetch of up to three stored batches: whatever they hold, the position never goes back, and what is unreadable is set aside."""
    raw = b"".join(
        _damaged_batch(random) if random.random() < 0.7 else random.choice(_stored())
        for _ in range(random.randint(1, 3))
    )
    held.append(raw)
    shared = Fetching(batch_rows=20_000, refetches=random.choice((0, 2)), records=random.random() < 0.2)
    start = random.choice((0, 0, 1, 5))
    plain = SimpleNamespace(
        _tp=TopicPartition("t", 0),
        _aborted_transactions=[],
        next_fetch_offset=start,
        _check_crcs=True,
        _isolation_level=1,
    )
    parser = PartitionBlocks(plain, raw, 10**6, shared)
    rows = spoilt = 0
    position = start
    for block in parser._unpack_records():
        assert block.start >= position and block.next_offset >= block.start
        position = block.next_offset
        assert len(block.values) == len(block.offsets) == len(block.timestamps)
        for row in range(min(len(block.values), 50)):
            block.keys.key(row)
        rows += len(block.values)
        spoilt += len(block.spoiled)
    return {"accepted" if rows and not spoilt else "set aside" if spoilt else "refetched": 1}
