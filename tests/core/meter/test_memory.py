"""Columns grow where they are, or by a copy where somebody looks; sets are emptied and used again."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from core.meter.dedupe import HORIZON_MS, Seen
from core.meter.index import KeySet
from core.meter.memory import Column, Scratch, zeroed


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("width", [(), (3,), (4, 4)])
def test_a_column_keeps_its_rows_and_new_ones_are_zeros(width: tuple[int, ...], watched: bool) -> None:
    column, written = Column.empty(np.int64, *width), 0
    seen: list[tuple[np.ndarray, int]] = []
    for count in (1, 10, 1_000, 50_000, 400_000, 410_000, 1_200_000):
        column.fit(count)
        assert len(column.array) >= count and column.array.shape[1:] == width
        assert column.array.ctypes.data % 64 == 0
        assert not column.array[written:count].any()
        column.array[written:count] = np.arange(written, count).reshape(-1, *(1 for _ in width))
        written = count
        if watched:
            seen.append((column.array, count))
    assert (column.array[:written].reshape(written, -1)[:, 0] == np.arange(written)).all()
    # Whoever looked before still sees what stood there then: his memory was not taken from under him.
    for array, count in seen:
        assert (array[:count].reshape(count, -1)[:, -1] == np.arange(count)).all()


@pytest.mark.skipif(sys.platform != "linux", reason="memory grows in place on Linux only")
def test_a_column_grows_where_it_is() -> None:
    column = Column.empty(np.uint64, 8)
    column.fit(1 << 16)
    column.array[: 1 << 16] = 7
    memory = column._memory
    column.fit(1 << 18)
    assert column._memory is memory and memory is not None
    assert (column.array[: 1 << 16] == 7).all() and not column.array[1 << 16 :].any()


def test_zeros_begin_at_a_line_whatever_their_size() -> None:
    for rows in (0, 1, 1_000, 1 << 20):
        made = zeroed((rows, 8), np.uint32)
        assert made.shape == (rows, 8) and made.flags.writeable and not made.any()
        assert not rows or made.ctypes.data % 64 == 0


def test_a_set_is_emptied_where_its_memory_fits() -> None:
    keys = np.arange(1, 50_001, dtype=np.uint64)
    old = KeySet()
    old.add(keys)
    again = old.emptied(40_000)
    assert again is old and not len(again.keys())
    again.add(keys[:5])
    assert sorted(again.keys().tolist()) == [1, 2, 3, 4, 5]
    assert again.emptied(10) is not again
    assert again.emptied(10_000_000) is not again


def test_an_identity_is_forgotten_with_its_generation_also_where_the_memory_is_used_again() -> None:
    seen, keys = Seen(1_000_000), np.arange(1, 100_001, dtype=np.uint64)
    for turn in range(6):
        times = np.full(len(keys), (turn * 2 + 1) * HORIZON_MS, np.int64)
        fresh, _ = seen.accept(keys, times)
        assert fresh.all() and len(seen) == len(keys)
        fresh, _ = seen.accept(keys, times)
        assert not fresh.any()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can say whether memory is held")
def test_memory_is_given_out_again_once_nobody_holds_any_of_it() -> None:
    scratch, rows = Scratch(), 1 << 21
    first = scratch.empty((rows,), np.uint64)
    place = first.ctypes.data
    part = first[5:10]
    part[:] = 7
    del first
    assert scratch.empty((rows,), np.uint64).ctypes.data != place
    assert (part == 7).all()
    del part
    again = scratch.copy(np.arange(rows, dtype=np.uint32).reshape(-1, 2))
    assert again.ctypes.data == place
    assert (again.ravel() == np.arange(rows)).all()


def test_no_more_memory_is_kept_than_it_may_be() -> None:
    scratch = Scratch(40 << 20)
    held = [scratch.empty((16 << 20,), np.uint8) for _ in range(4)]
    assert [len(array) for array in held] == [16 << 20] * 4
    assert sum(map(len, scratch._kept)) <= 40 << 20
    del held
    assert len(scratch.empty((100 << 20,), np.uint8)) == 100 << 20
    scratch.empty((36 << 20,), np.uint8)
    assert sum(map(len, scratch._kept)) <= 40 << 20


def test_what_is_small_is_not_kept() -> None:
    scratch = Scratch()
    assert scratch.empty((1_000, 3), np.int64).shape == (1_000, 3) and not scratch._kept
