"""Publishing: figures of closed ends as records of `meter.registers`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from core.effects import Emit
from core.meter.source import Source
from core.meter.windows import Closed
from schemas.envelope import key
from schemas.registers import Clock, Patch, Registers, encode

TOPIC: Final = "meter.registers"
MAX_CELLS: Final = 12_000
"""Cells in one record: below 900 kB at six columns of 8 bytes, with names."""


_NO_CELLS: Final = np.zeros(0, np.int64)


def registers(
    source: Source, group: int, closed: Sequence[Closed], before: int, clock: int, act: bool
) -> Iterator[Emit]:
    """Records with the patches, ordered by their ends; without patches, one record that tells the watermark.

    Only the last one carries `clock`, the others what was told `before`: nobody may judge an end whose patches are still to come.
    """
    about = source.groups[group]
    local = source.locals[group]
    parts = list(_parts(sorted(closed, key=lambda c: c.end)))
    for part in parts:
        cells = [c.cells for c in part]
        cuts: list[int] = np.cumsum([len(c) for c in cells]).tolist()
        used, inverse = np.unique(np.concatenate([_NO_CELLS, *cells]), return_inverse=True)
        numbers = np.split(inverse, cuts)[: len(cells)]
        patches = [
            Patch(c.window, c.end, c.version, _bytes(n), [_bytes(c.values[:, i]) for i in range(len(source.columns))])
            for c, n in zip(part, numbers, strict=True)
        ]
        record = Registers(
            source=source.topic,
            partition=source.partition,
            tenant=about.tenant,
            product=about.product,
            names=[source.cell_names[local[c]] for c in used.tolist()],
            columns=list(source.columns),
            patches=patches,
            clock=clock if part is parts[-1] else before,
            act=act,
            replay=group in source.born,
        )
        yield Emit(TOPIC, key(about.tenant, about.product), encode(record))


def clocks(source: Source, partitions: int) -> Iterator[Emit]:
    """The partition's clock, told to every partition of the registers."""
    value = encode(
        Clock(source=source.topic, partition=source.partition, at=source.clock.at, replaying=source.clock.replaying)
    )
    for partition in range(partitions):
        yield Emit(TOPIC, None, value, partition)


def _parts(closed: Sequence[Closed]) -> Iterator[list[Closed]]:
    part: list[Closed] = []
    cells = 0
    for c in closed:
        if len(c.cells) <= MAX_CELLS:
            if part and cells + len(c.cells) > MAX_CELLS:
                yield part
                part, cells = [], 0
            part.append(c)
            cells += len(c.cells) + 8
            continue
        for start in range(0, len(c.cells), MAX_CELLS):
            piece = c._replace(cells=c.cells[start : start + MAX_CELLS], values=c.values[start : start + MAX_CELLS])
            if part and cells + len(piece.cells) > MAX_CELLS:
                yield part
                part, cells = [], 0
            part.append(piece)
            cells += len(piece.cells) + 8
    if part or not closed:
        yield part


def _bytes(values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    return np.ascontiguousarray(values, "<i8").tobytes()
