"""A batch: the rows of one partition that were fetched together, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Headers = Sequence[tuple[str, bytes]]


class Rows(Protocol):
    """Reads single rows of a batch, on demand; slow, for odd rows and cold topics only."""

    def key(self, row: int) -> bytes | None:
        """The row's Kafka key."""


@dataclass(slots=True)
class Batch:
    """Rows `0 … n-1` of `topic`/`partition` in offset order. `next_offset` is the fetch position after them."""

    topic: str
    """Without the settings' prefix."""
    partition: int
    values: list[bytes | None]
    offsets: Int64s
    timestamps: Int64s
    """Broker time of each row, milliseconds."""
    next_offset: int
    rows: Rows
    headed: Mapping[int, Headers] = field(default_factory=dict)
    """Headers of the rows that have any, by row index."""
    lag: int = 0
    """Rows known to stand behind this batch."""
    clocks: tuple[Int64s, Int64s] | None = None
    """Where the past is read again: what the partition's clock was told between the rows, as (rows before it, event time)."""

    def __len__(self) -> int:
        return len(self.values)
