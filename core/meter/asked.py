"""Which figures of a source somebody asks for: a backtest closes no other ends, for nobody is shown its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from core.meter.index import Bools
from schemas.registers import ALL, bucket_of

if TYPE_CHECKING:
    from core.batch import Int64s
    from core.meter.source import Source

Wanted = Mapping[str, frozenset[str] | None]
"""Window → whose figures are asked for, beside those of the product itself; None: everybody's. Windows that are not here: nobody's."""


class Asked:
    """`wanted`: of one source. Until some end of a product was told, all of it is: its schedules count from that end."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = {window: None if names is None else names | {ALL} for window, names in wanted.items()}
        self._masks: dict[str, Bools] = {}
        self.begun: set[int] = set()
        """Products of which an end was told."""

    def window(self, group: int, name: str) -> bool:
        """Whether anything of the product's window is asked for."""
        return name in self._wanted or group not in self.begun

    def mask(self, source: Source, group: int, window: str, cells: Int64s) -> Bools | None:
        """Which of these cells are asked for; None: all of them."""
        names = self._wanted.get(window)
        if names is None or group not in self.begun:
            return None
        mask = self._masks.get(window)
        if mask is None or len(mask) < len(source.cell_names):
            known = 0 if mask is None else len(mask)
            more = [
                name in names or ((b := bucket_of(name)) is not None and b[0] in names)
                for name in source.cell_names[known:]
            ]
            fresh = np.array(more, np.bool_)
            mask = self._masks[window] = fresh if mask is None else np.concatenate([mask, fresh])
        return mask[cells]
