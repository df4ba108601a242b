"""State rows: keys as JSON lists, values as MessagePack, integer arrays in the smallest type that holds them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from core.batch import Int64s

Integers = npt.NDArray[np.signedinteger[Any]]
Packed = tuple[str, bytes]
"""(dtype, little-endian bytes)."""

_TYPES = ("<i1", "<i2", "<i4", "<i8")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_json = msgspec.json.Encoder().encode
_read_json = msgspec.json.Decoder(list[Any]).decode


def narrow(values: Integers) -> Integers:
    """A copy in the smallest signed type that holds every value."""
    return values.astype(_smallest(values))


def pack(values: Integers) -> Packed:
    """The array, flattened, in the smallest signed type that holds every value."""
    kind = _smallest(values)
    return kind, values.astype(kind).tobytes()


def _smallest(values: Integers) -> str:
    if not values.size:
        return _TYPES[0]
    low, high = int(values.min()), int(values.max())
    return next(t for t in _TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)


def unpack(packed: Packed) -> Int64s:
    """The flat array that was packed."""
    return np.frombuffer(packed[1], dtype=packed[0]).astype(np.int64)


def key(*parts: str | int) -> bytes:
    """A state key; two different lists never give the same key."""
    return _json(parts)


def read_key(value: bytes) -> list[Any]:
    """The parts of a state key."""
    return _read_json(value)


def encode(value: object) -> bytes:
    """MessagePack of a state row."""
    return _encode(value)


def decode(value: bytes) -> Any:
    """The state row."""
    return _decode(value)
