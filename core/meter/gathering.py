"""A base put together while its pages come: each is laid where it belongs at once, so that none of them has to be kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from core.meter import state
from core.meter.memory import Column
from core.meter.pages import fill


class Gathering:
    """One base's values by name, from its pages in any order."""

    def __init__(self) -> None:
        self.pages = 0
        """Pages that were added."""
        self.size = 0
        """Their bytes."""
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._pairs: dict[str, tuple[Column[np.uint64], int]] = {}
        self._names: dict[str, list[tuple[int, list[str]]]] = {}
        self._values: dict[str, Any] = {}

    def add(self, page: bytes) -> None:
        """One of the records that `state.pages` gave."""
        self.pages += 1
        self.size += len(page)
        name, kind, total, start, value = state.decode(page)
        match kind:
            case "pairs":
                if name not in self._pairs:
                    self._pairs[name] = Column.empty(np.uint64, 3), total
                    self._pairs[name][0].fit(total)
                fill(self._pairs[name][0].array, start, value)
            case "array":
                part = state.unpack(value)
                if name not in self._arrays:
                    self._arrays[name] = np.empty((total, *part.shape[1:]), part.dtype)
                self._arrays[name][start : start + len(part)] = part
            case "names":
                self._names.setdefault(name, []).append((start, value))
            case _:
                self._values[name] = value

    def values(self) -> dict[str, Any]:
        """Everything, pairs as (rows, how many there are). Complete once as many pages as the base's end names were added."""
        names = {name: [text for _, texts in sorted(parts) for text in texts] for name, parts in self._names.items()}
        return {**self._arrays, **self._pairs, **names, **self._values}
