"""A batch: the rows of one partition that were fetched together, as columns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Headers = Sequence[tuple[str, bytes]]


class Piece(NamedTuple):
    """Values of some rows within one payload."""

    payload: bytes
    spans: Int64s
    """A line a row, in the order in which they stand there: where its value begins, and the place behind it; an end before the
    beginning: there is none.
    """

    def value(self, row: int) -> bytes | None:
        """One of the values."""
        start, end = self.spans[row].tolist()
        return None if end < start else self.payload[start:end]

    def cut(self, starts: Int64s, stops: Int64s) -> Iterator[bytes]:
        """The payload's bytes between these places."""
        return map(self.payload.__getitem__, map(slice, starts.tolist(), stops.tolist()))

    def parts(self, most: int) -> Iterator[Piece]:
        """Pieces of at most so many rows."""
        if len(self.spans) <= most:
            yield self
            return
        for start in range(0, len(self.spans), most):
            yield Piece(self.payload, self.spans[start : start + most])

    def values(self) -> Iterator[bytes | None]:
        """All of them."""
        starts, ends = self.spans[:, 0], self.spans[:, 1]
        # Without a value the end is -1, which in a slice would be a copy of all the rest of the payload.
        stops = np.maximum(starts, ends)
        sliced = self.cut(starts, stops)
        if (ends < starts).any():
            return (value if there else None for value, there in zip(sliced, (ends >= starts).tolist(), strict=True))
        return sliced


class Values(Sequence[bytes | None]):
    """Values that stand where they came, in the payloads of stored batches, and are made when somebody asks for them."""

    def __init__(self, pieces: Iterable[Piece] = ()) -> None:
        self.pieces = [piece for piece in pieces if len(piece.spans)]
        self._ends = list(accumulate(len(piece.spans) for piece in self.pieces))

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> Values:
        """These values, joined into one payload where they are not in payloads yet."""
        if isinstance(values, Values):
            return values
        ends = np.cumsum([len(value or b"") for value in values], dtype=np.int64)
        spans = np.stack([np.append(np.zeros(1, np.int64), ends)[: len(ends)], ends], axis=1)
        spans[[i for i, value in enumerate(values) if value is None], 1] = -1
        return cls([Piece(b"".join(value or b"" for value in values), spans)])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[bytes | None]:
        for piece in self.pieces:
            yield from piece.values()

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes | None]: ...
    def __getitem__(self, at: int | slice) -> Sequence[bytes | None] | bytes | None:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            return Values(self.within(start, stop)) if step == 1 else list(self)[at]
        row = at + len(self) if at < 0 else at
        if not 0 <= row < len(self):
            raise IndexError(f"row {at} of {len(self)}")
        n = bisect_right(self._ends, row)
        return self.pieces[n].value(row - self._ends[n])

    def gathered(self, least: int) -> Iterator[Piece]:
        """All of them in pieces of at least so many rows, as far as there are; smaller ones are copied together."""
        few: list[Piece] = []
        for piece in self.pieces:
            if len(piece.spans) < least:
                few.append(piece)
                continue
            yield from _joined(few)
            few = []
            yield piece
        yield from _joined(few)

    def within(self, start: int, stop: int) -> Iterator[Piece]:
        """The rows `start` … `stop - 1` as pieces."""
        for piece, end in zip(self.pieces, self._ends, strict=True):
            before = end - len(piece.spans)
            if before < stop and end > start:
                yield Piece(piece.payload, piece.spans[max(start - before, 0) : stop - before])


def _joined(pieces: list[Piece]) -> Sequence[Piece]:
    """Their rows in one piece: of each payload what lies between its first row and its last."""
    if len(pieces) < 2:
        return pieces
    parts: list[bytes] = []
    moves: list[int] = []
    size = 0
    for payload, spans in pieces:
        begin, end = int(spans[0, 0]), max(spans[-1].tolist())
        parts.append(payload[begin:end])
        moves.append(size - begin)
        size += end - begin
    spans = np.concatenate([piece.spans for piece in pieces])
    moved = spans + np.repeat(np.array(moves, np.int64), [len(piece.spans) for piece in pieces])[:, np.newaxis]
    moved[spans[:, 1] < spans[:, 0], 1] = -1
    return [Piece(b"".join(parts), moved)]


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
    values: Sequence[bytes | None]
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
