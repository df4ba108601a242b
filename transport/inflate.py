"""How large a compressed payload says it will be, before anybody makes room for it.

A record of a few bytes can claim gigabytes, and the decompressors believe it. What says nothing (LZ4, which cannot grow more
than 255 times; Zstandard in streams) is not bounded here.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 128 << 20
"""Bytes that one stored batch may inflate to; 64 times the largest that a topic takes."""
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


def claimed(payload: bytes, codec: int) -> int:
    """Bytes that the payload claims to hold; 0 where it does not say. Never raises, whatever the bytes are."""
    match codec:
        case 1:
            return int.from_bytes(payload[-4:], "little") if len(payload) >= 18 else 0
        case 2:
            return _snappy(payload)
        case 4:
            return _zstd(payload)
    return 0


def _snappy(payload: bytes) -> int:
    if not payload.startswith(_XERIAL):
        return _varint(payload, 0)
    total, at = 0, _XERIAL_HEADER
    while at + 4 <= len(payload):
        size = int.from_bytes(payload[at : at + 4], "big")
        total += _varint(payload, at + 4)
        at += 4 + size
    return total


def _varint(payload: bytes, at: int) -> int:
    number = 0
    for shift, byte in enumerate(payload[at : at + 10]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number
    return 0


def _zstd(payload: bytes) -> int:
    """The content size of the first frame."""
    if not payload.startswith(_ZSTD) or len(payload) < 6:
        return 0
    descriptor = payload[4]
    single = bool(descriptor & 0x20)
    width = (int(single), 2, 4, 8)[descriptor >> 6]
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(payload[at : at + width], "little")
    return size + 256 if width == 2 else size
