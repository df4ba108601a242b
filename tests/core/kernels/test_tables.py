"""The tables that kernels keep, beside dictionaries that say the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.kernels import bits
from core.kernels.framing import walk
from core.kernels.hashing import home
from core.meter.dedupe import Seen
from core.meter.index import KeyIndex, KeySet
from core.meter.levels import bitmap, panes
from core.meter.pending import WINDOWS, Pending
from core.meter.waiting import Sums

KEYS = st.integers(1, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(KEYS, st.integers(1, 40)), max_size=60), max_size=8))
def test_index_numbers_keys_in_order_of_first_sight(rounds: list[list[int]]) -> None:
    index, known = KeyIndex(), dict[int, int]()
    for keys in rounds:
        column = np.array(keys, np.uint64)
        assert index.get(column).tolist() == [known.get(k, -1) for k in keys]
        wanted = [known.setdefault(k, len(known)) for k in keys]
        assert index.get_or_add(column).tolist() == wanted
    assert index.keys[: index.count].tolist() == list(known)
    again = KeyIndex(index.keys[: index.count].copy())
    assert again.get(np.array(list(known), np.uint64)).tolist() == list(known.values())


def test_index_grows_over_many_keys() -> None:
    keys = np.random.default_rng(1).integers(1, 1 << 62, 50_000).astype(np.uint64)
    index = KeyIndex()
    for start in range(0, len(keys), 777):
        index.get_or_add(keys[start : start + 777])
    assert index.count == len(np.unique(keys))
    assert (index.keys[index.get(keys)] == keys).all()


def test_homes_keep_their_order_when_a_table_grows() -> None:
    """What recovery relies on: pairs written in the order of one table fill another one from front to back."""
    keys = np.random.default_rng(2).integers(1, 1 << 62, 2_000).astype(np.uint64)
    small = [int(home(k, np.uint64(1_000))) for k in keys]
    large = [int(home(k, np.uint64(77_777))) for k in keys]
    order = np.argsort(large, kind="stable")
    assert sorted(small) == [small[i] for i in order]
    assert 0 <= min(small) and max(small) < 1_000 and len(set(large)) > 1_900


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(KEYS, max_size=50), max_size=6))
def test_set_holds_what_was_added(rounds: list[set[int]]) -> None:
    table, known = KeySet(), set[int]()
    for keys in rounds:
        table.add(np.array(sorted(keys - known), np.uint64))
        known |= keys
    assert set(table.keys().tolist()) == known and table.count == len(known)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=30), max_size=6), st.integers(1, 12))
def test_first_sights_within_a_capacity(rounds: list[list[int]], capacity: int) -> None:
    seen, current, before = Seen(capacity), set[int](), set[int]()
    for keys in rounds:
        fresh, _ = seen.accept(np.array(keys, np.uint64), np.zeros(len(keys), np.int64))
        wanted = []
        for key in keys:
            known = key in current or key in before
            if not known and len(current) == capacity:
                current, before = set(), current
                known = key in before
            wanted.append(not known)
            if not known:
                current.add(key)
        assert fresh.tolist() == wanted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=40), st.booleans(), st.integers(0, 1000))
def test_bitmaps_are_sets_of_panes(steps: list[int], wide: bool, base: int) -> None:
    """Panes arrive in any order, at most so far back that the bitmap still reaches them."""
    width = 128 if wide else 32
    low, high, last, known = np.uint64(0), np.uint64(0), 0, set[int]()
    for step in steps:
        newest = max(known, default=base)
        pane = max(0, newest + step - 45)
        if newest - pane >= width:
            continue
        new, before, after, low, high, last = bits.see(low, high, last, pane, wide)
        near = {p for p in known if max(known) - p < width}
        assert new == (pane not in near)
        if new:
            assert before == max((p for p in near if p < pane), default=bits.NO_PANE)
            assert after == min((p for p in near if p > pane), default=bits.FAR)
        known.add(pane)
        known = {p for p in known if max(known) - p < width}
        low, high = np.uint64(low), np.uint64(high)
        assert panes(int(low), int(high), int(last)) == known
        assert bitmap(known, width) == (int(low), int(high), int(last))


ENTRIES = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, WINDOWS - 1), st.integers(1, 20), st.integers(1, 6), st.integers(-3, 3)
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(ENTRIES, st.integers(0, 3), st.integers(0, WINDOWS - 1), st.integers(0, 25)), max_size=8))
def test_pending_gives_back_what_was_added(rounds: list[tuple[list[tuple[int, ...]], int, int, int]]) -> None:
    pending, known = Pending(2), dict[tuple[int, int], dict[tuple[int, int], list[int]]]()
    for entries, group, window, upto in rounds:
        for g, w, end, cell, value in entries:
            # cells are the source's own, so no two products share one
            cell += 10 * g
            pending.add(g, w, np.array([end]), np.array([cell]), np.array([[value, 1]]))
            sums = known.setdefault((g, w), {}).setdefault((end, cell), [0, 0])
            sums[0] += value
            sums[1] += 1
        mine = known.get((group, window), {})
        assert rows(pending.peek(group, window)) == mine
        taken = {at: mine.pop(at) for at in list(mine) if at[0] <= upto}
        assert rows(pending.take(group, window, upto)) == taken
        assert not taken or not pending.due(group, window, upto)
        assert len(pending) == sum(map(len, known.values()))


def rows(columns: tuple[np.ndarray, ...]) -> dict[tuple[int, int], list[int]]:
    ends, cells, values = (column.tolist() for column in columns)
    assert len(set(zip(ends, cells, strict=True))) == len(ends)
    return dict(zip(zip(ends, cells, strict=True), values, strict=True))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 28))
def test_records_are_never_read_beyond_the_payload(payload: bytes, count: int) -> None:
    offsets, timestamps = np.full((2, count), -7, np.int64)
    keys, values, headers = np.full((3, count, 2), -7, np.int64)
    raw = np.frombuffer(payload, np.uint8)
    found = walk(raw, count, 1_000, 5_000, False, offsets, timestamps, keys, values, headers)
    assert found <= count
    if found >= 0 and count:
        starts, ends = np.stack([keys[:, 0], values[:, 0]]), np.stack([keys[:, 1], values[:, 1]])
        assert (starts >= 0).all() and (ends <= len(payload)).all() and (headers[:, 1] <= len(payload)).all()
        assert found == np.count_nonzero(headers[:, 0])


def test_sums_reach_the_ends_and_the_table_of_a_flood_is_given_back() -> None:
    sums, groups, sizes = Sums(1), np.zeros(1 << 19, np.int64), []
    for flood in (1, 300_000, 1, 1):
        cells, times = np.arange(1, flood + 1)[np.newaxis], np.full(flood, 10_000)
        late = sums.add(cells, 1, np.ones((flood, 1), np.int64), times, np.zeros(flood, np.int64), groups)
        assert not len(late) and sums.entries == 2 * WINDOWS * flood
        sizes.append(sums._index.nbytes())
        pending = Pending(1)
        pending.fit(1, sums.entries)
        sums.pour(pending.table)
        assert sums.entries == 0
        assert rows(pending.take(0, 0, 2)) == {(2, cell): [1] for cell in range(1, flood + 1)}
    assert sizes[1] > 10 * sizes[0] and sizes[3] == sizes[0]
