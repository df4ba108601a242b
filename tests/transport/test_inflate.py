"""What a compressed payload says of its size, by the compressors themselves."""

from __future__ import annotations

import gzip

import cramjam
import pytest
from aiokafka.codec import snappy_encode
from hypothesis import given
from hypothesis import strategies as st

from transport.inflate import MOST, claimed


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
