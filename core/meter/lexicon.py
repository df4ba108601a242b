"""The few names that rows share (tenants, products, features), as the kernel that reads them looks them up: by their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash

from core.batch import Int64s
from core.kernels import index as kernels
from core.kernels.fields import MARGIN, NAMED
from core.meter.index import LOAD, UInt32s, UInt64s, empty_slots, grown

MOST: Final = 1 << 15
"""Names of a field that are kept; what comes then is looked up by Python."""


class Lexicon:
    """Name of a field → its code. `tables`: by number of the field, what says which code a name has; codes never change."""

    def __init__(self, tables: Mapping[int, Mapping[Any, int]]) -> None:
        self.tables = tables
        self.count = 0
        self.keys: UInt64s = np.zeros(64, np.uint64)
        """Hashes of the names, their field the seed."""
        self.places: Int64s = np.zeros((64, 3), np.int64)
        """Where a name begins in the arena, its size times `NAMED` and its field, its code."""
        self.slots: UInt32s = empty_slots(0)
        self.arena: npt.NDArray[np.uint8] = np.zeros(1024, np.uint8)
        self._used = 0
        self._known: dict[int, set[bytes]] = {field: set() for field in tables}

    def code(self, field: int, name: bytes) -> int:
        """The code of a name that was not found; from now on it is, if it is sound (codes below 0 are not) and there is room."""
        code = self.tables[field][name.decode()]
        known = self._known[field]
        if code >= 0 and len(known) < MOST and name not in known:
            known.add(name)
            self._add(field, name, code)
        return code

    def _add(self, field: int, name: bytes, code: int) -> None:
        number, self.count = self.count, self.count + 1
        self.keys, self.places = grown(self.keys, self.count), grown(self.places, self.count)
        self.arena = grown(self.arena, self._used + len(name) + MARGIN)
        self.arena[self._used : self._used + len(name)] = np.frombuffer(name, np.uint8)
        self.places[number] = self._used, len(name) * NAMED + field, code
        self._used += len(name)
        key = np.array([xxhash.xxh3_64_intdigest(name, field)], np.uint64)
        if self.count > len(self.slots) * LOAD:
            self.keys[number] = key[0]
            self.slots = empty_slots(self.count)
            kernels.place(self.keys, self.slots, self.count)
        else:
            kernels.append(key, self.keys, self.slots, number)
