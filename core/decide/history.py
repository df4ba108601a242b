"""History of one source's figures in one window: the differences it told, in columns as narrow as their values allow.

While a source is ahead of the others, everything it tells waits here: hours of it, or days. So what a difference takes is a dozen
bytes, not an object, and memory for them has a bound (`attic`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from core.decide.attic import Attic
from core.decide.packing import narrow

TICK = 10_000
"""Every window end is a multiple of this."""
_BLOCK_ROWS = 4_096
_TAIL_PARTS = 64
"""Parts that are kept as they came, before they are packed together."""
_EVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Entries:
    """Differences: at `ends[i]` the figures of cell `cells[i]` changed by `deltas[i]`."""

    ends: Int64s
    cells: Int64s
    deltas: Int64s

    def __len__(self) -> int:
        return len(self.ends)

    def columns(self) -> tuple[Int64s, Int64s, Int64s]:
        """ends, cells, deltas."""
        return self.ends, self.cells, self.deltas

    def where(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Entries:
        """The entries that the mask, or the list of indices, names."""
        return Entries(self.ends[mask], self.cells[mask], self.deltas[mask])

    def ordered(self) -> Entries:
        """In order of their ends, equal ones as they stand."""
        return self if (self.ends[1:] >= self.ends[:-1]).all() else self.where(np.argsort(self.ends, kind="stable"))


def merged(parts: list[Entries], width: int) -> Entries:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.zeros(0, np.int64)
        return Entries(none, none, np.zeros((0, width), np.int64))
    return Entries(
        np.concatenate([p.ends for p in parts]),
        np.concatenate([p.cells for p in parts]),
        np.concatenate([p.deltas for p in parts]),
    )


class _Block:
    """Many entries in order of their ends, packed."""

    __slots__ = ("_kept", "_rows", "first", "last")

    def __init__(self, entries: Entries, attic: Attic) -> None:
        """`entries`: some, in order."""
        self.first, self.last = int(entries.ends[0]), int(entries.ends[-1])
        self._rows = len(entries)
        ticks, cells = narrow((entries.ends - self.first) // TICK), narrow(entries.cells)
        self._kept = attic.keep([ticks, cells, *(narrow(entries.deltas[:, i]) for i in range(entries.deltas.shape[1]))])

    def __len__(self) -> int:
        return self._rows

    @property
    def nbytes(self) -> int:
        """Of its columns, in memory."""
        return self._kept.nbytes

    def between(self, after: int, until: int) -> Entries:
        """Entries of ends after the one and not after the other."""
        ticks, cells, *deltas = self._kept.columns()

        def place(end: int) -> int:
            return int(np.searchsorted(ticks, (end - self.first) // TICK, side="right"))

        low = 0 if after < self.first else place(after)
        high = len(self) if until >= self.last else place(until)
        return Entries(
            ticks[low:high].astype(np.int64) * TICK + self.first,
            cells[low:high].astype(np.int64),
            np.stack([column[low:high] for column in deltas], axis=1).astype(np.int64),
        )


class History:
    """Grows at its end; what is old is forgotten. `width`: columns of a difference; `attic`: where it is kept."""

    def __init__(self, width: int, attic: Attic | None = None) -> None:
        self._width, self._attic = width, attic or Attic()
        self._blocks: list[_Block] = []
        self._lasts: list[int] = []
        """The newest end in each block or one before it: rises."""
        self._firsts: list[int] = []
        """The oldest end in each block or one behind it: rises, too."""
        self._tail: list[Entries] = []
        self._tail_rows = 0
        self._tail_first = _EVER
        """The oldest end in the tail, or one before it."""
        self.last = -1
        """The newest end of all that was ever taken in."""

    def __len__(self) -> int:
        return sum(map(len, self._blocks)) + self._tail_rows

    @property
    def nbytes(self) -> int:
        """Of all columns that are kept, in memory."""
        return sum(b.nbytes for b in self._blocks) + sum(c.nbytes for e in self._tail for c in e.columns())

    def add(self, entries: Entries) -> None:
        """Take entries in."""
        if not len(entries):
            return
        self._tail.append(entries)
        self._tail_rows += len(entries)
        self._tail_first = min(self._tail_first, int(entries.ends.min()))
        self.last = max(self.last, int(entries.ends.max()))
        if len(self._tail) > _TAIL_PARTS or self._tail_rows >= _BLOCK_ROWS:
            self._pack()

    def between(self, after: int, until: int = _EVER) -> Iterator[Entries]:
        """What changed at ends after the one and not after the other; in no order."""
        if self.last <= after:
            return
        # Of a long backlog one stretch after the other is asked for: only the blocks that may have some of it are looked at.
        for number in range(bisect_right(self._lasts, after), bisect_right(self._firsts, until)):
            block = self._blocks[number]
            if block.last > after and block.first <= until:
                yield block.between(after, until)
        for entries in self._tail if self._tail_first <= until else ():
            mask = (entries.ends > after) & (entries.ends <= until)
            if mask.all():
                yield entries
            elif mask.any():
                yield entries.where(mask)

    def forget(self, until: int) -> None:
        """Drop what is of ends at or before `until`, as far as it stands in pieces of its own."""
        if self._blocks and self._blocks[0].last <= until:
            self._blocks = [block for block in self._blocks if block.last > until]
            self._bounds()
        if self._tail and int(self._tail[0].ends[0]) <= until:
            self._tail = [entries for entries in self._tail if int(entries.ends.max()) > until]
            self._tail_rows = sum(map(len, self._tail))

    def _pack(self) -> None:
        parts, self._tail, self._tail_rows, self._tail_first = self._tail, [], 0, _EVER
        if self._blocks and len(self._blocks[-1]) < _BLOCK_ROWS // 2:
            parts.insert(0, self._blocks.pop().between(-1, _EVER))
        self._blocks.append(_Block(merged(parts, self._width).ordered(), self._attic))
        self._bounds()

    def _bounds(self) -> None:
        self._lasts = list(accumulate((block.last for block in self._blocks), max))
        self._firsts = list(accumulate((block.first for block in reversed(self._blocks)), min))[::-1]
