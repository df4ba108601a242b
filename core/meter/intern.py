"""Names to dense numbers, per partition, through dict lookups driven from C."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.batch import Int64s
from schemas.envelope import TENANT_PATTERN

Int32s = npt.NDArray[np.int32]

_tenant = re.compile(TENANT_PATTERN.removesuffix("$"))


class Interner(dict[str, int]):
    """String → number in order of first sight; number 0 is the empty string, which is nobody."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__()
        self.names: list[str] = []
        self[""] = 0
        self.names.append("")
        self.extend(names)
        self.drained = 1
        """Names below this number are in the checkpoints."""

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self.names)
        self.names.append(name)
        return number

    def extend(self, names: Iterable[str]) -> None:
        """Take names in their order, as they were drained. Each takes a number, also an empty one, which was retired and is nobody's;
        a name that came again after it was retired has its newest number, although the retirement may be told of later.
        """
        fresh = names if isinstance(names, list) else list(names)
        self.update(zip(fresh, range(len(self.names), len(self.names) + len(fresh)), strict=True))
        self[""] = 0
        self.names += fresh

    def retire(self, number: int) -> None:
        """The number has no name any more; should the name come again, it gets another number."""
        if self.get(self.names[number]) == number:
            del self[self.names[number]]
        self.names[number] = ""

    def codes(self, names: Iterable[str], count: int) -> Int64s:
        """The numbers of `count` names; unknown ones are added."""
        return codes(self, names, count)

    def new(self) -> Sequence[str]:
        """Names since the last call."""
        since, self.drained = self.drained, len(self.names)
        return self.names[since:]


class Tenants(Interner):
    """Tenant ids; one that breaks the pattern is number 0."""

    def __missing__(self, name: str) -> int:
        return super().__missing__(name) if _tenant.fullmatch(name) else 0


class Flags(dict[object, int]):
    """Values to small codes by a fixed table, with a default for what is not in it; never grows."""

    def __init__(self, known: dict[object, int], default: int) -> None:
        super().__init__(known)
        self._default = default

    def __missing__(self, value: object) -> int:
        return self._default


class Prefixed(dict[object, int]):
    """Names to the numbers that `names` gives them behind a prefix; none is 0."""

    def __init__(self, names: Interner, prefix: str) -> None:
        super().__init__({None: 0})
        self._names, self._prefix = names, prefix

    def __missing__(self, name: object) -> int:
        number = self[name] = self._names[f"{self._prefix}{name}"]
        return number


def codes(table: Mapping[Any, int], values: Iterable[object], count: int) -> Int64s:
    """What the table says of `count` values, one after the other; no bytecode a value that it has."""
    return np.fromiter(map(table.__getitem__, values), np.int64, count)


class Grid:
    """(row, column) → number, for two dense codes: a table that grows with both. 0 is "not there"."""

    def __init__(self) -> None:
        self._table = np.zeros((4, 64), np.int32)

    def get(self, rows: Int64s, columns: Int64s) -> Int64s:
        """Numbers of the pairs, 0 where there is none."""
        self._fit(int(rows.max(initial=0)), int(columns.max(initial=0)))
        return self._table[rows, columns].astype(np.int64)

    def put(self, row: int, column: int, number: int) -> None:
        """Set one pair's number."""
        self._fit(row, column)
        self._table[row, column] = number

    def _fit(self, row: int, column: int) -> None:
        height, width = self._table.shape
        if row < height and column < width:
            return
        while height <= row:
            height *= 2
        while width <= column:
            width *= 2
        table = np.zeros((height, width), np.int32)
        table[: self._table.shape[0], : self._table.shape[1]] = self._table
        self._table = table
