"""State at rest: deltas (the rows folded since the last drain) and a rolling base (everything, page by page).

Records of the state topic: `delta|<sequence>` and `base|<generation>|<page>`, the base's last page being `base|<generation>|end`.
A base holds the state as it was at one sequence number; recovery takes the newest finished base, then the deltas behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from core.meter.pages import BYTES, Columns
from core.meter.source import Rows

MAX_RECORD: Final = 800_000
"""Bytes of array in one record."""
MAX_ROWS: Final = 15_000
"""Rows in one delta: below `MAX_RECORD` at 50 bytes a row."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_NARROW: Final = {np.dtype(kind).str: (int(np.iinfo(kind).max), kind) for kind in (np.uint8, np.uint16, np.uint32)}
"""Name of a type → its largest number, and the type; the narrowest first."""


def pack(values: npt.NDArray[Any]) -> tuple[Any, ...]:
    """An array as (dtype, shape, offset, bytes): integers as differences from the smallest, in the narrowest type."""
    if values.dtype == np.int64 and values.size:
        low = int(values.min())
        span = int(values.max()) - low
        for name, (most, kind) in _NARROW.items():
            if span <= most:
                return name, values.shape, low, (values - low).astype(kind).tobytes()
    return values.dtype.str, values.shape, 0, np.ascontiguousarray(values).tobytes()


def unpack(packed: Sequence[Any]) -> npt.NDArray[Any]:
    """The array; integers that were narrowed are int64 again."""
    kind, shape, low, data = packed
    values: npt.NDArray[Any] = np.frombuffer(data, kind).reshape(shape)
    if kind in _NARROW:
        wide: npt.NDArray[Any] = values.astype(np.int64) + low
        return wide
    return values.copy()


def pack_rows(rows: Rows) -> list[Any]:
    """Rows as plain values."""
    return [
        pack(rows.group),
        pack(rows.time),
        pack(rows.pace - rows.time),
        pack(rows.key),
        {name: pack(column) for name, column in rows.columns.items()},
        rows.turns,
        rows.seen_clock,
        list(rows.markers),
    ]


def unpack_rows(packed: Sequence[Any]) -> Rows:
    """The rows again."""
    time = unpack(packed[1])
    columns = {name: unpack(column) for name, column in packed[4].items()}
    markers = [(m[0], m[1], m[2], m[3], m[4], m[5], m[6]) for m in packed[7]]
    return Rows(
        unpack(packed[0]), time, unpack(packed[2]) + time, unpack(packed[3]), columns, packed[5], packed[6], markers
    )


def cut(rows: Rows, start: int, stop: int, *, last: bool) -> Rows:
    """Rows `start` … `stop - 1`, with the turns and markers before them; what stands behind the end goes to the last part."""
    return Rows(
        rows.group[start:stop],
        rows.time[start:stop],
        rows.pace[start:stop],
        rows.key[start:stop],
        {name: column[start:stop] for name, column in rows.columns.items()},
        [t - start for t in rows.turns if start <= t and (t < stop or last)],
        rows.seen_clock,
        [(m[0] - start, *m[1:]) for m in rows.markers if start <= m[0] and (m[0] < stop or last)],
    )


def join(parts: Sequence[Rows]) -> Rows:
    """One after the other: any split of the rows folds to the same state."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    return Rows(
        np.concatenate([p.group for p in parts]),
        np.concatenate([p.time for p in parts]),
        np.concatenate([p.pace for p in parts]),
        np.concatenate([p.key for p in parts]),
        {name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns},
        [t + s for p, s in zip(parts, starts, strict=False) for t in p.turns],
        parts[-1].seen_clock,
        [(m[0] + s, *m[1:]) for p, s in zip(parts, starts, strict=False) for m in p.markers],
    )


def encode(value: object) -> bytes:
    """MessagePack."""
    return _encode(value)


def decode(value: bytes) -> Any:
    """What `encode` was given, tuples being lists."""
    return _decode(value)


def pages(name: str, value: Any) -> Iterator[bytes]:
    """A large value as records: pairs and arrays in slices of rows, a list of strings in slices, anything else whole."""
    if isinstance(value, Columns):
        rows, total = max(1, MAX_RECORD // BYTES), len(value.cells)
        for start in range(0, max(1, total), rows):
            yield _encode([name, "pairs", total, start, value.page(start, start + rows)])
    elif isinstance(value, np.ndarray) and value.nbytes > MAX_RECORD:
        rows = max(1, MAX_RECORD // max(1, value.nbytes // len(value)))
        for start in range(0, len(value), rows):
            yield _encode([name, "array", len(value), start, pack(value[start : start + rows])])
    elif isinstance(value, np.ndarray):
        yield _encode([name, "array", len(value), 0, pack(value)])
    elif isinstance(value, list) and value and isinstance(value[0], str):
        start, size = 0, 0
        for i, text in enumerate(value):
            size += 3 + 4 * len(text)
            if size > MAX_RECORD:
                yield _encode([name, "names", len(value), start, value[start:i]])
                start, size = i, 3 + 4 * len(text)
        yield _encode([name, "names", len(value), start, value[start:]])
    else:
        yield _encode([name, "value", 1, 0, value])
