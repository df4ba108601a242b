"""The attic: packed history that memory has no room for goes to a file and is read when event time comes to it.

While a partition of METER lags behind the others by days, what these say waits, and nothing in DECIDE can end that wait: the one
that lags is told in the same log. So memory has a bound here, for all of a process's history together, and what is beyond goes
to disk. What comes last is wanted last: it is what goes.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np

from core.decide.packing import Integers

log = logging.getLogger(__name__)

MOST: Final = 256 << 20
"""Bytes of history that a process holds in memory."""
SEGMENT: Final = 64 << 20
"""Bytes of a file. Its room is free again when all that is in it is over."""


class File(Protocol):
    """What is written to: at its end, and read anywhere."""

    def fileno(self) -> int:
        """As of any file."""

    def close(self) -> None:
        """What was in it is gone."""


class Kept(Protocol):
    """Columns that are kept somewhere. They are let go with this object."""

    @property
    def nbytes(self) -> int:
        """Of memory."""

    def columns(self) -> Sequence[Integers]:
        """As they were. Raises `OSError` where a file can't be read."""


class Attic:
    """Of one process. `most`: bytes that stay in memory; `new_file`: makes an empty file; None: there is memory alone."""

    def __init__(self, most: int = MOST, new_file: Callable[[], File] | None = None, segment: int = SEGMENT) -> None:
        self.held = 0
        """Bytes in memory."""
        self.stored = 0
        """Bytes in files, also of what is over while more of its file is not."""
        self._most, self._new_file, self._segment = most, new_file, segment
        self._open: _Segment | None = None
        self._complained = False

    def keep(self, columns: Sequence[Integers]) -> Kept:
        """Take columns in. Where the disk is full they stay in memory, which is said once."""
        size = sum(column.nbytes for column in columns)
        if self._new_file is not None and self.held + size > self._most:
            try:
                return self._store(self._new_file, columns, size)
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

    def _store(self, new_file: Callable[[], File], columns: Sequence[Integers], size: int) -> Kept:
        if self._open is None or self._open.size >= self._segment:
            self._open = _Segment(new_file(), self._gone)
        at = self._open.append(columns, size)
        self.stored += size
        return _InFile(self._open, at, columns)

    def _gone(self, size: int) -> None:
        self.stored -= size


class _Segment:
    """A file that is there as long as anything in it is, or may be put into it."""

    def __init__(self, file: File, gone: Callable[[int], None]) -> None:
        self.size = 0
        self._file, self._sizes = file, [0]
        weakref.finalize(self, _closed, file, self._sizes, gone).atexit = False

    def append(self, columns: Sequence[Integers], size: int) -> int:
        at = self.size
        data = memoryview(b"".join(np.ascontiguousarray(column).tobytes() for column in columns))
        while data:
            written = os.pwrite(self._file.fileno(), data, self.size)
            data, self.size = data[written:], self.size + written
        self._sizes[0] += size
        return at

    def read(self, at: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, at)
        if len(data) != size:
            raise OSError(f"a file of figures that wait ends {size - len(data)} bytes early")
        return data


def _closed(file: File, sizes: list[int], gone: Callable[[int], None]) -> None:
    file.close()
    gone(sizes[0])


class _InMemory:
    __slots__ = ("__weakref__", "_columns", "nbytes")

    def __init__(self, columns: Sequence[Integers], size: int) -> None:
        self._columns, self.nbytes = columns, size

    def columns(self) -> Sequence[Integers]:
        return self._columns


class _InFile:
    __slots__ = ("_at", "_kinds", "_rows", "_segment")

    def __init__(self, segment: _Segment, at: int, columns: Sequence[Integers]) -> None:
        self._segment, self._at = segment, at
        self._kinds: list[np.dtype[Any]] = [column.dtype for column in columns]
        self._rows = len(columns[0])

    @property
    def nbytes(self) -> int:
        return 0

    def columns(self) -> Sequence[Integers]:
        data = self._segment.read(self._at, sum(kind.itemsize for kind in self._kinds) * self._rows)
        found: list[Integers] = []
        at = 0
        for kind in self._kinds:
            found.append(np.frombuffer(data, kind, self._rows, at))
            at += kind.itemsize * self._rows
        return found
