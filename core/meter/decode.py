"""Bytes to rows: one typed C decode an event, for plain JSON and structured CloudEvents alike; of the hot topics, those that
`core.meter.plain` leaves.

The good path runs no Python bytecode per event. A row that fails, is a CloudEvent, a marker or lacks its time is looked at by itself
(`core.meter.settle`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import compress, repeat
from operator import attrgetter, is_
from typing import Any, Final

import numpy as np

from core.batch import Headers, Int64s
from core.meter.settle import FAILURES, MAX_VALUE_BYTES, settle
from core.meter.wire import Decoded, Wire

_EMPTY: Final = np.empty(0, np.int64)
_occurred_at = attrgetter("occurred_at")


def decode(values: Sequence[bytes | None], headed: Mapping[int, Headers], wire: Wire) -> Decoded:
    """Every value as a row of `wire`, or the reason why not. Never raises for a row's sake."""
    rows: list[Any] = []
    failed: dict[int, str] = {}
    stream = map(wire.decode, values)  # type: ignore[arg-type]
    while True:
        try:
            rows.extend(stream)  # keeps what it had when it raises, and the iterator goes on behind the bad row
            break
        except FAILURES as error:
            failed[len(rows)] = str(error)
            rows.append(wire.row())
    decoded = Decoded(rows, _EMPTY)
    suspects = set(failed)
    if max(map(len, filter(None, values)), default=0) > MAX_VALUE_BYTES:
        suspects.update(i for i, v in enumerate(values) if v is not None and len(v) > MAX_VALUE_BYTES)
    for i, headers in headed.items():
        if is_event(headers):
            suspects.add(i)
    times = milliseconds(rows)
    suspects.update(np.flatnonzero(times < 0).tolist())
    if suspects:
        for i in sorted(suspects):
            settle(i, values[i], headed.get(i, ()), failed.get(i), wire, decoded)
        at = sorted(suspects)
        times[at] = milliseconds([rows[i] for i in at])
    decoded.times = times
    return decoded


def is_event(headers: Headers) -> bool:
    """Whether the row is a CloudEvent in binary mode."""
    return any(name.startswith("ce_") for name, _ in headers)


def milliseconds(rows: Sequence[Any]) -> Int64s:
    """`occurred_at` of the rows; RFC 3339 times are cut to the millisecond."""
    stamps = list(map(_occurred_at, rows))
    try:
        return np.fromiter(stamps, np.int64, len(stamps))
    except TypeError:
        dated = np.fromiter(map(is_, map(type, stamps), repeat(datetime)), np.bool_, len(stamps))
        out = np.empty(len(stamps), np.int64)
        seconds = np.fromiter(map(datetime.timestamp, compress(stamps, dated.tolist())), np.float64)
        out[dated] = np.rint(seconds * 1e6).astype(np.int64) // 1000  # whole microseconds are exact in a double
        out[~dated] = np.fromiter(compress(stamps, (~dated).tolist()), np.int64)
        return out
