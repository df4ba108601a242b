"""Which figures of a source somebody asks for: a backtest closes no other ends, for nobody is shown its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from core.meter.index import Bools
from schemas.registers import ALL, bucket_of

if TYPE_CHECKING:
    from core.batch import Int64s
    from core.meter.source import Source

Wanted = Mapping[str, frozenset[str] | None]
"""Window → whose figures are asked for, beside those of the product itself; None: everybody's. Windows that are not here: nobody's."""


class Asked:
    """`wanted`: of one source. Until some end of a product was told, all of it is: its schedules count from that end.

    `corrected`: whether anybody asks what late rows change at ends that were told.
    """

    def __init__(self, wanted: Wanted, corrected: bool = True) -> None:
        self.corrected = corrected
        self._wanted = {window: None if names is None else names | {ALL} for window, names in wanted.items()}
        self._masks: dict[str, Bools] = {}
        self.begun: set[int] = set()
        """Products of which an end was told."""

    def window(self, group: int, name: str) -> bool:
        """Whether anything of the product's window is asked for."""
        return name in self._wanted or group not in self.begun

    def narrow(self, group: int, window: str) -> bool:
        """Whether only some names' figures of it are."""
        return self._wanted.get(window) is not None and group in self.begun

    def mask(self, source: Source, window: str, cells: Int64s) -> Bools:
        """Which of these cells (by the source's numbers) have such a name."""
        names = self._wanted[window] or frozenset()
        mask = self._masks.get(window, _NO_CELLS)
        if len(mask) < len(source.cell_names):
            more = [_name(name) in names for name in source.cell_names[len(mask) :]]
            mask = self._masks[window] = np.concatenate([mask, np.array(more, np.bool_)])
        return mask[cells]


def _name(cell: str) -> str:
    """Whose figure the cell is: a bucket of latencies belongs to the name it is of."""
    bucket = bucket_of(cell)
    return cell if bucket is None else bucket[0]


_NO_CELLS: Final = np.zeros(0, np.bool_)
