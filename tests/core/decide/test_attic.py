"""The attic: what is kept comes back, memory stays within its bound, and room is free again when nobody wants what is in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.decide.attic import Attic, Kept
from core.decide.packing import Integers, narrow
from transport.segments import Segments


def columns(seed: int, rows: int) -> list[Integers]:
    rng = np.random.default_rng(seed)
    return [narrow(rng.integers(0, 1 << bits, rows)) for bits in (5, 12, 30, 50)]


def equal(one: Kept, wanted: list[Integers]) -> bool:
    found = one.columns()
    return all(a.dtype == b.dtype and (a == b).all() for a, b in zip(found, wanted, strict=True))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 9)), max_size=60), st.sampled_from([0, 3_000, 10**9]))
def test_what_is_kept_comes_back_and_its_room_too(story: list[tuple[int, int]], most: int) -> None:
    attic = Attic(most, Segments(TemporaryFile, segment=5_000))
    kept: list[tuple[Kept, list[Integers]]] = []
    for seed, (rows, away) in enumerate(story):
        made = columns(seed, rows)
        kept.append((attic.keep(made), made))
        if away < 4:
            del kept[away * len(kept) // 4]
        assert attic.held <= most
        assert attic.held == sum(one.nbytes for one, _ in kept)
        assert all(equal(one, wanted) for one, wanted in kept)
    assert attic.stored == 0 or most < 10**9
    kept.clear()
    assert attic.held == 0
    assert attic.stored <= 5_000 + 400 * 15, "the file that is written to is there yet"


def test_a_file_goes_when_all_in_it_is_over() -> None:
    opened: list[IO[bytes]] = []

    def new_file() -> IO[bytes]:
        opened.append(TemporaryFile())
        return opened[-1]

    attic = Attic(0, Segments(new_file, segment=1_000))
    kept = [attic.keep(columns(n, 100)) for n in range(10)]
    assert len(opened) == 10 and not any(file.closed for file in opened)
    del kept[3:5]
    assert [n for n, file in enumerate(opened) if file.closed] == [3, 4]
    kept.clear()
    assert [n for n, file in enumerate(opened) if not file.closed] == [9], "the one that is written to"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A file system without room: /dev/full says so to everyone who writes."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    yield


@pytest.mark.usefixtures("full_disk")
def test_where_the_disk_is_full_nothing_is_lost_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    attic = Attic(0, Segments(lambda: open("/dev/full", "r+b", buffering=0)))
    made = [columns(n, 50) for n in range(3)]
    kept = [attic.keep(one) for one in made]
    assert all(equal(one, wanted) for one, wanted in zip(kept, made, strict=True))
    assert attic.held == sum(one.nbytes for one in kept) > 0 and attic.stored == 0
    [said] = [r.getMessage() for r in caplog.records]
    assert os.strerror(errno.ENOSPC) in said


def test_a_file_that_is_cut_short_is_no_zeros() -> None:
    files: list[IO[bytes]] = []

    def new_file() -> IO[bytes]:
        files.append(TemporaryFile())
        return files[-1]

    kept = Attic(0, Segments(new_file)).keep(columns(1, 50))
    os.ftruncate(files[0].fileno(), 20)
    with pytest.raises(OSError, match="bytes early"):
        kept.columns()
