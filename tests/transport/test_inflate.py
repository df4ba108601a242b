"""What a compressed payload says of its size, what it could become, and bombs of a gigabyte that say nothing."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import cramjam
import pytest
from aiokafka.codec import snappy_encode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.test_fetching import blocks, rows
from transport.fetching import Fetching
from transport.framing import HEADER
from transport.inflate import MOST, TooLarge, ceiling, claimed, old_payload, refuse_too_large

MIB = 1 << 20


def zstd_stream(size: int) -> bytes:
    """A frame without content size, of blocks that each say one byte again: the strongest bomb there is."""
    block = 128 << 10

    def rle(n: int, last: bool) -> bytes:
        return (n << 3 | 1 << 1 | last).to_bytes(3, "little") + b"a"

    whole, rest = divmod(size, block)
    return b"\x28\xb5\x2f\xfd\x00\x38" + rle(block, False) * whole + rle(rest, True)


def lz4_stream(size: int) -> bytes:
    stream = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
    for _ in range(size // MIB):
        stream.compress(b"a" * MIB)
    return bytes(stream.finish())


def gzip_stream(size: int) -> bytes:
    """Two members, of which the last, whose size stands at the end, is tiny."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(stream.compress(b"a" * MIB) for _ in range(size // MIB)) + stream.flush() + gzip.compress(b"x")


STREAMS: list[tuple[int, Callable[[int], bytes]]] = [(1, gzip_stream), (3, lz4_stream), (4, zstd_stream)]


def stored(payload: bytes, codec: int) -> bytes:
    """The payload as a batch that a producer may have written: length and checksum are right."""
    batch = bytearray(rows(0, b"x")[: HEADER.size] + payload)
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">h", batch, 21, codec)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)


def the_bomb(name: str) -> None:
    """Fetches a bomb of more than a gigabyte beside two good batches; prints what became of it and the peak of memory."""
    codec, make = next((c, m) for c, m in STREAMS if m.__name__ == name)
    batch = stored(make(1200 * MIB), codec)
    before = _peak()
    found, position = blocks(batch + rows(1, b"good"))
    (spoiled,) = found[0].spoiled
    values = b"".join(v or b"" for v in found[0].values).decode()
    print(len(batch) < 6 * MIB, spoiled.reason, spoiled.offset, position, values, _peak() - before)


def _peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


@given(st.one_of(st.binary(max_size=2_000), st.integers(0, 300_000).map(lambda n: b"a" * n)))
def test_honest_payloads_say_their_size(content: bytes) -> None:
    assert claimed(gzip.compress(content), 1) == len(content)
    assert claimed(bytes(cramjam.snappy.compress_raw(content)), 2) == len(content)
    assert claimed(snappy_encode(content), 2) == len(content)
    assert claimed(bytes(cramjam.zstd.compress(content)), 4) in (len(content), 0)
    assert claimed(content, 0) == claimed(content, 3) == 0


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (
            2,
            bytes.fromhex("82ffffffff0b") + b"xxxx",
        ),  # found by `make fuzz`: cramjam asks for 3 GB and ends the process
        (2, b"\x82SNAPPY\x00" + bytes(8) + (10).to_bytes(4, "big") + bytes.fromhex("ffffffff0f") + b"xxxxx"),
        (4, bytes.fromhex("28b52ffd e0") + (1 << 40).to_bytes(8, "little")),
        (1, gzip.compress(b"x")[:-4] + b"\xff\xff\xff\x7f"),
    ],
    ids=[
        "snappy",
        "framed snappy",
        "zstd",
        "gzip",
    ],  # gzip writes the time into its head: as an id it would be another each run
)
def test_what_claims_too_much_is_seen(codec: int, payload: bytes) -> None:
    assert claimed(payload, codec) > MOST


@given(st.binary(max_size=64), st.integers(-1, 8))
def test_any_bytes_have_an_answer(payload: bytes, codec: int) -> None:
    assert claimed(payload, codec) >= 0
    for head in (b"\x82SNAPPY\x00", b"\x28\xb5\x2f\xfd"):
        assert claimed(head + payload, codec) >= 0


@pytest.mark.parametrize("name", [make.__name__ for _, make in STREAMS])
def test_a_bomb_of_a_gigabyte_is_set_aside_in_bounded_memory(name: str) -> None:
    code = f"from tests.transport.test_inflate import the_bomb; the_bomb({name!r})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert answer[:5] == ["True", "inflates_too_much", "0", "2", "good"]
    assert int(answer[5]) < 2 * MOST // MIB


@pytest.mark.parametrize(("codec", "make"), STREAMS)
def test_the_bound_is_exact(codec: int, make: Callable[[int], bytes]) -> None:
    payload = make(3 * MIB)
    size = 3 * MIB + (codec == 1)  # the tiny member's byte
    assert ceiling(payload, codec) >= size
    refuse_too_large(payload, codec, size)
    with pytest.raises(TooLarge, match="more than"):
        refuse_too_large(payload, codec, size - 1)


@given(st.one_of(st.binary(max_size=2_000), st.integers(0, 300_000).map(lambda n: b"a" * n)))
def test_no_payload_becomes_more_than_its_ceiling(content: bytes) -> None:
    for codec, module in ((1, cramjam.gzip), (3, cramjam.lz4), (4, cramjam.zstd)):
        once = bytes(module.compress(content))
        for payload in (once, once + once):
            assert len(bytes(module.decompress(payload))) <= ceiling(payload, codec)
            refuse_too_large(payload, codec)


def test_an_honest_stream_is_not_inflated_twice() -> None:
    """Its blocks alone say that it stays below the bound: the walk counts them, whatever else stands behind is doubted."""
    assert ceiling(zstd_stream(MOST - 1), 4) == MOST
    assert ceiling(zstd_stream(10) + b"x", 4) > 128 << 10
    assert ceiling(bytes(cramjam.zstd.compress(bytes(range(256)) * 4_000)), 4) <= 9 * (128 << 10)


@pytest.mark.parametrize("codec", [1, 3, 4])
def test_what_must_be_tried_and_cannot_be_read_is_corrupt(codec: int) -> None:
    with pytest.raises(CorruptRecordException):
        refuse_too_large(b"?" * 600_000, codec)


@given(st.binary(max_size=64), st.integers(-1, 8))
def test_any_bytes_are_judged(payload: bytes, codec: int) -> None:
    for head in (b"", b"\x28\xb5\x2f\xfd"):
        assert ceiling(head + payload, codec) >= 0
    inner, _ = old_payload(payload)
    assert len(inner) <= len(payload)


@pytest.mark.parametrize("magic", [0, 1])
def test_the_old_formats_hold_their_bombs_in_a_value(magic: int) -> None:
    bomb = gzip_stream(200 * MIB)
    body = (
        bytes([magic, 1])
        + bytes(8) * magic
        + (-1).to_bytes(4, "big", signed=True)
        + len(bomb).to_bytes(4, "big")
        + bomb
    )
    record = zlib.crc32(body).to_bytes(4, "big") + body
    old = bytes(8) + len(record).to_bytes(4, "big") + record
    assert old_payload(old) == (bomb, 1)
    found, position = blocks(old + rows(1, b"good"), shared=Fetching(batch_rows=9, refetches=0, records=False))
    assert "more than 134217728 bytes" in found[0].spoiled[0].detail and position == 2
