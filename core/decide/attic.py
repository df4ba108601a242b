"""The attic: packed history that memory has no room for goes to a store outside and is read when event time comes to it.

While a partition of METER lags behind the others by days, what these say waits, and nothing in DECIDE can end that wait: the one
that lags is told in the same log. So memory has a bound here, for all of a process's history together, and what is beyond goes
to disk (`transport.segments`). What comes last is wanted last: it is what goes.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np

from core.decide.packing import Integers

log = logging.getLogger(__name__)

MOST: Final = 256 << 20
"""Bytes of history that a process holds in memory."""


class Stored(Protocol):
    """Bytes in a store. They are let go with this object."""

    def read(self) -> bytes:
        """As they were. Raises `OSError` where they can't be read."""


class Store(Protocol):
    """Room outside memory."""

    size: int
    """Bytes that it takes."""

    def put(self, data: bytes) -> Stored:
        """Take bytes in. Raises `OSError` where there is no room."""


class Kept(Protocol):
    """Columns that are kept somewhere. They are let go with this object."""

    @property
    def nbytes(self) -> int:
        """Of memory."""

    def columns(self) -> Sequence[Integers]:
        """As they were. Raises `OSError` where a store can't be read."""


class Attic:
    """Of one process. `most`: bytes that stay in memory; `store`: where the others go; None: there is memory alone."""

    def __init__(self, most: int = MOST, store: Store | None = None) -> None:
        self.held = 0
        """Bytes in memory."""
        self._most, self._store = most, store
        self._complained = False

    @property
    def stored(self) -> int:
        """Bytes outside memory, also of what is over while its room is not free yet."""
        return 0 if self._store is None else self._store.size

    def keep(self, columns: Sequence[Integers]) -> Kept:
        """Take columns in. Where the store has no room they stay in memory, which is said once."""
        size = sum(column.nbytes for column in columns)
        if self._store is not None and self.held + size > self._most:
            try:
                return _Outside(self._store.put(b"".join(column.tobytes() for column in columns)), columns)
            except OSError as error:
                if not self._complained:
                    log.error(
                        "figures that wait stay in memory, beyond its bound: their file can't be written (%s)", error
                    )
                self._complained = True
        self.held += size
        kept = _InMemory(columns, size)
        weakref.finalize(kept, self._let_go, size).atexit = False
        return kept

    def _let_go(self, size: int) -> None:
        self.held -= size


class _InMemory:
    __slots__ = ("__weakref__", "_columns", "nbytes")

    def __init__(self, columns: Sequence[Integers], size: int) -> None:
        self._columns, self.nbytes = columns, size

    def columns(self) -> Sequence[Integers]:
        return self._columns


class _Outside:
    __slots__ = ("_kinds", "_rows", "_stored")

    def __init__(self, stored: Stored, columns: Sequence[Integers]) -> None:
        self._stored = stored
        self._kinds: list[np.dtype[Any]] = [column.dtype for column in columns]
        self._rows = len(columns[0])

    @property
    def nbytes(self) -> int:
        return 0

    def columns(self) -> Sequence[Integers]:
        data, at = self._stored.read(), 0
        found: list[Integers] = []
        for kind in self._kinds:
            found.append(np.frombuffer(data, kind, self._rows, at))
            at += kind.itemsize * self._rows
        return found
