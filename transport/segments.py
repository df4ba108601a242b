"""Segments: bytes put into files one behind the other; a file goes when nobody wants anything in it any more."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import IO, Final

SEGMENT: Final = 64 << 20
"""Bytes of a file."""


class Segments:
    """`new_file`: makes an empty file, which nobody else uses. Fills `core.decide.attic.Store`."""

    def __init__(self, new_file: Callable[[], IO[bytes]], segment: int = SEGMENT) -> None:
        self.size = 0
        """Bytes in files, also of what is over while more of its file is not."""
        self._new_file, self._segment = new_file, segment
        self._open: _Segment | None = None

    def put(self, data: bytes) -> Part:
        """Take bytes in. Raises `OSError` where they can't be written."""
        if self._open is None or self._open.size >= self._segment:
            self._open = _Segment(self._new_file(), self._gone)
        part = self._open.append(data)
        self.size += len(data)
        return part

    def _gone(self, size: int) -> None:
        self.size -= size


class Part:
    """Bytes in a segment, which stays as long as this does."""

    __slots__ = ("_at", "_segment", "_size")

    def __init__(self, segment: _Segment, at: int, size: int) -> None:
        self._segment, self._at, self._size = segment, at, size

    def read(self) -> bytes:
        """As they were put in. Raises `OSError` where the file can't be read, or has less."""
        return self._segment.read(self._at, self._size)


class _Segment:
    def __init__(self, file: IO[bytes], gone: Callable[[int], None]) -> None:
        self.size = 0
        self._file, self._taken = file, [0]
        weakref.finalize(self, _closed, file, self._taken, gone).atexit = False

    def append(self, data: bytes) -> Part:
        part, left = Part(self, self.size, len(data)), memoryview(data)
        while left:
            written = os.pwrite(self._file.fileno(), left, self.size)
            left, self.size = left[written:], self.size + written
        self._taken[0] += len(data)
        return part

    def read(self, at: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, at)
        if len(data) != size:
            raise OSError(f"a file of figures that wait ends {size - len(data)} bytes early")
        return data


def _closed(file: IO[bytes], taken: list[int], gone: Callable[[int], None]) -> None:
    file.close()
    gone(taken[0])
