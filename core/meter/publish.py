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
        used, patches = _patches(part, len(source.columns))
        record = Registers(
            source=source.topic,
            partition=source.partition,
            tenant=about.tenant,
            product=about.product,
            names=[source.cell_names[local[c]] for c in used],
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


def _patches(part: Sequence[Closed], columns: int) -> tuple[list[int], list[Patch]]:
    """The cells that these ends speak of, ascending, and the ends as patches. All are turned to bytes at once and then cut."""
    if not part:
        return [], []
    used, numbers = np.unique(np.concatenate([c.cells for c in part]), return_inverse=True)
    values = np.concatenate([c.values for c in part])
    of = np.ascontiguousarray(numbers, "<i8").tobytes()
    table = [np.ascontiguousarray(values[:, i], "<i8").tobytes() for i in range(columns)]
    patches: list[Patch] = []
    at = 0
    for c in part:
        start, at = at, at + 8 * len(c.cells)
        patches.append(Patch(c.window, c.end, c.version, of[start:at], [column[start:at] for column in table]))
    return used.tolist(), patches
