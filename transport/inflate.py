"""How large a compressed payload would become, before anybody makes room for it.

A record of a few bytes can claim gigabytes, and the decompressors believe it; a few kilobytes can become gigabytes without
claiming anything. What claims too much is not tried. What says nothing and could become too large by its format is inflated
once, into a buffer that ends at the bound, and thrown away.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

import cramjam
import numpy as np
from aiokafka.errors import CorruptRecordException

MOST: Final = 128 << 20
"""Bytes that one stored batch may inflate to; 64 times the largest that a topic takes."""
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK: Final = 128 << 10
"""The most that one block of Zstandard holds."""
_ZSTD_GROWTH: Final = _ZSTD_BLOCK // 4
"""A block has three bytes of header and one more at least."""
_GZIP_GROWTH: Final = 1_032
"""DEFLATE's own bound: 258 bytes from two bits."""
_LZ4_GROWTH: Final = 255
_DECODERS: Final[dict[int, ModuleType]] = {1: cramjam.gzip, 3: cramjam.lz4, 4: cramjam.zstd}
_FULL: Final = "failed to write whole buffer"
"""What cramjam says of a buffer that is too small."""


class TooLarge(CorruptRecordException):  # type: ignore[misc]
    """A stored batch would inflate to more than `MOST` bytes."""


def refuse_too_large(payload: bytes, codec: int, most: int = MOST) -> None:
    """Raises `TooLarge` where the payload would become more than `most` bytes, `CorruptRecordException` where it must be tried to
    know that and cannot be read. Never holds more than `most` bytes for it.
    """
    size = claimed(payload, codec)
    if size > most:
        raise TooLarge(f"it would inflate from {len(payload)} to {size} bytes; at most {most}")
    if ceiling(payload, codec) <= most:
        return
    try:
        # Pages of the buffer come into being as they are written: what is small costs little.
        _DECODERS[codec].decompress_into(payload, np.empty(most, np.uint8))
    except (cramjam.DecompressionError, OSError) as error:
        if _FULL in str(error):
            raise TooLarge(
                f"it would inflate from {len(payload)} to more than {most} bytes, the most it may"
            ) from error
        raise CorruptRecordException(str(error)) from error


def ceiling(payload: bytes, codec: int) -> int:
    """The most that a payload can become whatever it says, by its format; 0 where its own word is binding (Snappy) or nothing
    is compressed. Costs no more than a walk over the blocks.
    """
    match codec:
        case 1:
            return len(payload) * _GZIP_GROWTH
        case 3:
            return len(payload) * _LZ4_GROWTH
        case 4:
            blocks = _zstd_blocks(payload)
            return len(payload) * _ZSTD_GROWTH if blocks is None else blocks * _ZSTD_BLOCK
    return 0


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


def old_payload(stored: bytes) -> tuple[bytes, int]:
    """Payload and codec of a stored record of the formats before v2, which compress the rows in a record's value."""
    codec = stored[17] & 0x07 if len(stored) > 17 else 0
    at = 26 if stored[16:17] == b"\x01" else 18
    key = int.from_bytes(stored[at : at + 4], "big", signed=True)
    return stored[at + 8 + max(key, 0) :] if codec else b"", codec


def _zstd_blocks(payload: bytes) -> int | None:
    """Blocks of one frame that fills the payload; None for anything else, of which nothing is known."""
    if not payload.startswith(_ZSTD) or len(payload) < 6:
        return None
    descriptor = payload[4]
    single = bool(descriptor & 0x20)
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3] + (int(single), 2, 4, 8)[descriptor >> 6]
    blocks, last = 0, False
    while not last and at + 3 <= len(payload):
        header = int.from_bytes(payload[at : at + 3], "little")
        last, kind = bool(header & 1), header >> 1 & 3
        at += 3 + (1 if kind == 1 else header >> 3)
        blocks += 1
    at += 4 * (descriptor >> 2 & 1)
    return blocks if last and at == len(payload) else None


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
