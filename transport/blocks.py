"""A block: consecutive stored batches of one partition that were fetched together, joined."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.batch import Headers, Int64s, Piece, Values
from transport.framing import Columns, Keys

NO_ROWS: Int64s = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A stored batch that cannot be read: its bytes as they stand in the log, and why."""

    offset: int
    next_offset: int
    stored: bytes
    reason: Literal["unknown_codec", "corrupt_batch", "inflates_too_much"]
    detail: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class JoinedKeys:
    """Keys of several stored batches. `begins` are the joined row numbers at which each of them starts."""

    begins: list[int]
    parts: list[tuple[Keys, int]]
    """Keys, and how many rows of the part stand before its first one here."""

    def key(self, row: int) -> bytes | None:
        """The key of one row."""
        part = bisect_right(self.begins, row) - 1
        keys, skipped = self.parts[part]
        return keys.key(row - self.begins[part] + skipped)


@dataclass(slots=True)
class Block:
    """Rows from the fetch position `start` up to, not including, `next_offset`; it may have no rows at all (transaction
    markers, aborted transactions, compacted batches), but always moves the position.
    """

    topic: str
    """As Kafka knows it."""
    partition: int
    start: int
    next_offset: int
    seek: int
    """Number of the seek that this block was fetched after."""
    end: int
    """The log's end as the broker gave it with the fetch."""
    values: Values = field(default_factory=Values)
    offsets: Int64s = field(default_factory=lambda: NO_ROWS)
    timestamps: Int64s = field(default_factory=lambda: NO_ROWS)
    keys: Keys = field(default_factory=lambda: JoinedKeys([], []))
    headed: dict[int, Headers] = field(default_factory=dict)
    spoiled: list[Spoiled] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)


class BlockBuilder:
    """Joins the columns of stored batches into one block."""

    def __init__(self, topic: str, partition: int, start: int, seek: int, end: int) -> None:
        self._block = Block(topic, partition, start, start, seek, end)
        self._rows = 0
        self._pieces: list[Piece] = []
        self._offsets: list[Int64s] = []
        self._timestamps: list[Int64s] = []
        self._begins: list[int] = []
        self._keys: list[tuple[Keys, int]] = []
        self.size = 0
        """Bytes of the inflated batches in it."""

    def __len__(self) -> int:
        return self._rows

    @property
    def moved(self) -> bool:
        """Whether there is anything to hand on."""
        return self._block.next_offset > self._block.start

    def add(self, columns: Columns, position: int) -> None:
        """Take the rows at or after `position`: a first stored batch may begin before it."""
        offsets, timestamps = columns.offsets, columns.timestamps
        rows, skip = len(offsets), 0
        if rows and offsets[0] < position:
            skip = int(np.searchsorted(offsets, position))
            rows, offsets, timestamps = rows - skip, offsets[skip:], timestamps[skip:]
        if not rows:
            return
        self.size += columns.size
        block, begin = self._block, self._rows
        self._rows += rows
        self._begins.append(begin)
        self._keys.append((columns.keys, skip))
        self._offsets.append(offsets)
        self._timestamps.append(timestamps)
        self._pieces += columns.values.within(skip, skip + rows) if skip else columns.pieces
        for row, headers in columns.headed.items():
            if row >= skip:
                block.headed[begin + row - skip] = headers

    def set_aside(self, spoiled: Spoiled) -> None:
        """Take note of a stored batch that cannot be read."""
        self._block.spoiled.append(spoiled)

    def move(self, next_offset: int) -> None:
        """Everything before `next_offset` has been taken."""
        self._block.next_offset = next_offset

    def build(self) -> Block:
        """The block; the builder is spent."""
        block = self._block
        block.values = Values(self._pieces)
        if self._offsets:
            block.offsets = np.concatenate(self._offsets)
            block.timestamps = np.concatenate(self._timestamps)
        block.keys = JoinedKeys(self._begins, self._keys)
        return block
