"""Pairs at rest: tens of millions of rows as narrow columns, page by page, and back without a copy of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from core.kernels import columns as kernels
from core.meter.index import UInt64s
from core.meter.memory import Column, scratch
from core.meter.pairs import Pairs

BYTES: Final = 22
"""Of a row at most: cell 4, user 4, time 8, newest day and origin 2, days 4. Mostly it is 15."""
_WIDE: Final = (np.uint32, np.uint32, np.uint64, np.uint16, np.uint32)
_NARROW: Final = (np.uint8, np.uint16, np.uint32)

Packed = Sequence[Any]


class Columns(NamedTuple):
    """All pairs, and the hot slots with the pairs' places in these columns."""

    cells: npt.NDArray[np.uint32]
    users: npt.NDArray[np.uint32]
    times: UInt64s
    newest: npt.NDArray[np.uint16]
    """Newest day * 2 + whether the first use was organic."""
    days: npt.NDArray[np.uint32]

    def page(self, start: int, stop: int) -> list[Packed]:
        """Some of the rows, as plain values."""
        return [_pack(column[start:stop]) for column in self]


def columns(pairs: Pairs) -> tuple[Columns, UInt64s]:
    """A copy of the pairs, and of their hot slots."""
    n, hot = len(pairs), scratch.copy(pairs.hot[: pairs.hot_count])
    cells, users, days = (scratch.empty((n,), np.uint32) for _ in range(3))
    firsts, newest = scratch.empty((n,), np.uint64), scratch.empty((n,), np.uint16)
    kernels.in_order(pairs.rows, pairs.slots, hot, cells, users, firsts, newest, days)
    newest <<= np.uint16(1)
    newest |= (firsts & np.uint64(1)).astype(np.uint16)
    firsts >>= np.uint64(1)
    return Columns(cells, users, firsts, newest, days), hot


def fill(rows: UInt64s, start: int, page: Sequence[Packed]) -> None:
    """Put a page into the rows of `Pairs`, from row `start` on."""
    cells, users, times, newest, days = (
        np.frombuffer(data, kind).astype(wide) for (kind, _, data), wide in zip(page, _WIDE, strict=True)
    )
    least = np.array([low for _, low, _ in page], np.uint64)
    kernels.from_columns(cells, users, times, newest, days, least, rows, start)


def join(rows: Column[np.uint64], count: int, hot: UInt64s) -> Pairs:
    """Pairs of filled rows, the first `count`, and the hot slots that `columns` gave."""
    kernels.warm(rows.array, hot)
    return Pairs(rows, count, hot)


def _pack(values: npt.NDArray[Any]) -> Packed:
    """(dtype, offset, bytes): differences from the smallest, in the narrowest type."""
    low = int(values.min(initial=np.iinfo(values.dtype).max)) if len(values) else 0
    span = int(values.max(initial=0)) - low
    kind = next((k for k in _NARROW if span <= np.iinfo(k).max), np.uint64)
    return np.dtype(kind).str, low, (values - values.dtype.type(low)).astype(kind).tobytes()
