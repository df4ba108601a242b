"""The slow twin of `framing`: aiokafka's own records, one object a row. For parity tests, old formats and doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka.record.memory_records import MemoryRecords

from core.batch import Values
from transport.framing import Columns, Headed


@dataclass(frozen=True, slots=True)
class _ListedKeys:
    keys: list[bytes | None]

    def key(self, row: int) -> bytes | None:
        return self.keys[row]


def frame_records(stored: bytes) -> Columns:
    """The rows of one stored batch of any format; errors as `framing.frame`."""
    records: list[Any] = list(MemoryRecords(stored).next_batch())
    headed: Headed = {
        row: [(name, value or b"") for name, value in record.headers]
        for row, record in enumerate(records)
        if record.headers
    }
    return Columns(
        np.array([record.offset for record in records], dtype=np.int64),
        np.array([record.timestamp for record in records], dtype=np.int64),
        Values.of([record.value for record in records]).pieces,
        _ListedKeys([record.key for record in records]),
        headed,
        sum(len(record.value or b"") + len(record.key or b"") for record in records),
    )
