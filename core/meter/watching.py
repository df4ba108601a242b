"""Watching: which rows of a batch carry a value that some rule requires. No bytecode a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any, Final

import numpy as np

from core.batch import Int64s
from core.meter.index import Bools
from core.meter.interest import Interest
from core.meter.plain import FIELDS, Scan

CODED: Final = frozenset({"tenant", "product", "feature", "service"})
"""Columns whose values have codes that tell them apart."""


class Watch:
    """What is looked for in the rows of one topic."""

    def __init__(self, interest: Interest) -> None:
        self._always = bool(interest.always)
        self._wanted: Mapping[str, Mapping[Any, object]] = interest.by_value
        self._bytes = {
            f: frozenset(v.encode() for v in values if isinstance(v, str)) for f, values in self._wanted.items()
        }
        self._codes: dict[str, tuple[int, Int64s]] = {}
        """By column, how many names its table had, and the codes of those that are looked for."""

    def decoded(self, rows: list[Any]) -> Iterable[int]:
        """Places of the decoded rows that have one."""
        if self._always:
            return range(len(rows))
        hits = np.zeros(len(rows), np.bool_)
        for column, values in self._wanted.items():
            hits |= np.fromiter(
                map(values.__contains__, map(getattr, rows, repeat(column), repeat(None))), np.bool_, len(rows)
            )
        found: list[int] = np.flatnonzero(hits).tolist()
        return found

    def scanned(self, scan: Scan) -> Bools | None:
        """Which of the scanned rows have one; of rows that are not plain it says anything. None: none has."""
        if self._always:
            return np.ones(len(scan.texts), np.bool_)
        found: list[Bools] = []
        for column, values in self._wanted.items():
            field = FIELDS[column]
            if None in values:
                found.append(scan.missing(field))
            if column not in CODED:
                there = np.flatnonzero(scan.plain & ~scan.missing(field))
                hits = np.zeros(len(scan.texts), np.bool_)
                hits[there] = np.fromiter(
                    map(self._bytes[column].__contains__, scan.slices(there, field)), np.bool_, len(there)
                )
                found.append(hits)
            elif field in scan.tables and len(codes := self._codes_of(column, scan.tables[field])):
                found.append(np.isin(scan.figures[field], codes))
        return np.logical_or.reduce(found) if found else None

    def _codes_of(self, column: str, table: Mapping[Any, int]) -> Int64s:
        known = self._codes.get(column)
        if known is None or known[0] != len(table):
            codes = [code for value in self._wanted[column] if (code := table.get(value, 0)) > 0]
            known = self._codes[column] = len(table), np.array(codes, np.int64)
        return known[1]
