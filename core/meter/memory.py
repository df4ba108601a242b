"""Memory of tables that grow: it stays where it is and is asked for in huge pages.

What a machine hands out for the first time costs, and most of all where a hypervisor has to find it first (0.1 to 3 ms a megabyte);
so columns grow without a copy, and nothing is touched before it is needed. Tables that are probed at random miss the translation of
nearly every address without huge pages.
"""

from __future__ import annotations

import math
import mmap
import sys
from threading import Lock
from typing import Any, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)

_LARGE: Final = 1 << 23
"""Bytes from which memory is mapped by itself: below, a copy takes a millisecond, and the rest of a huge page would be much."""
_HUGE: Final = 1 << 21
"""Bytes of a huge page: Linux begins a mapping at such a border only where it is so many, or a multiple, long."""
_LINE: Final = 64
_RESERVE: Final = 2
"""How much longer a column becomes: what is not written yet is no memory, only addresses."""
_KEPT: Final = 128 << 20
"""Bytes that `Scratch` keeps at most."""
_LOOSE: Final = 4
"""How many times too large memory may be that is given out again."""


def zeroed(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros whose first byte begins a cache line: rows of 64 bytes then lie in one line each, not in two."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size >= _LARGE:
        return _array(_mapped(size), kind, shape)
    raw = np.zeros(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(kind).reshape(shape)


class Column(Generic[T]):
    """Rows that become more; new ones are zeros."""

    def __init__(self, array: npt.NDArray[T]) -> None:
        self.array = array
        """Valid until the next `fit`."""
        self._memory: mmap.mmap | None = None

    @classmethod
    def empty(cls, dtype: type[T], *width: int) -> Column[T]:
        """Without rows; `width` are the dimensions behind the first."""
        return cls(zeroed((0, *width), dtype))

    def fit(self, count: int) -> None:
        """Make room for so many rows."""
        if count <= len(self.array):
            return
        old, kind, shape = self.array, self.array.dtype, (count * _RESERVE + 64, *self.array.shape[1:])
        size = math.prod(shape) * kind.itemsize
        if self._memory is not None:
            del old
            self.array = np.zeros(0, kind)  # what is to move must not be held
            if _resized(self._memory, size):
                self.array = _array(self._memory, kind, shape)
                return
            self.array = old = _array(self._memory, kind, (-1, *shape[1:]))
        self._memory = _mapped(size) if size >= _LARGE else None
        self.array = zeroed(shape, kind) if self._memory is None else _array(self._memory, kind, shape)
        self.array[: len(old)] = old


class Scratch:
    """Large arrays that are needed for a moment, again and again: copies for a base. Memory that nobody holds any more is given out
    once more; given back to the system it would have to be found anew each time.
    """

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        self._kept: list[mmap.mmap] = []
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array with anything in it, which belongs to the caller as long as anybody holds it, or a part of it."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < _LARGE:
            return np.empty(shape, kind)
        with self._lock:
            memory = self._given(_whole(size))
            array = _array(memory, kind, shape)
        return array

    def copy(self, array: npt.NDArray[T]) -> npt.NDArray[T]:
        """A copy."""
        made = self.empty(array.shape, array.dtype)
        made[...] = array
        return made

    def _given(self, size: int) -> mmap.mmap:
        free = sorted((m for m in self._kept if _resized(m, len(m))), key=len)
        for memory in free:
            if size <= len(memory) <= _LOOSE * size:
                return memory
        made = _mapped(size)
        for small in free:  # what fits nobody makes room
            if size + sum(map(len, self._kept)) <= self._most:
                break
            self._kept.remove(small)
        # Elsewhere nobody can say whether memory is still held, so none of it would ever be given out again.
        if sys.platform == "linux" and size + sum(map(len, self._kept)) <= self._most:
            self._kept.append(made)
        return made


scratch: Final = Scratch()
"""Of the process."""


def _mapped(size: int) -> mmap.mmap:
    made = mmap.mmap(-1, _whole(size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        made.madvise(mmap.MADV_HUGEPAGE)
    return made


def _whole(size: int) -> int:
    return -(-size // _HUGE) * _HUGE


def _resized(memory: mmap.mmap, size: int) -> bool:
    """Whether it could be made longer: not where somebody looks at it, nor where the system cannot (macOS) or has no room for it."""
    try:
        memory.resize(_whole(size))
    except (BufferError, SystemError, OSError):
        return False
    return True


def _array(memory: mmap.mmap, kind: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    item = kind.itemsize * math.prod(shape[1:])
    rows = shape[0] if shape[0] >= 0 else len(memory) // item
    return np.frombuffer(memory, kind, rows * item // kind.itemsize).reshape(rows, *shape[1:])
