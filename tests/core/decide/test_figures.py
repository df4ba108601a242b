"""Figures of a window: what is queued under an end is added up, whatever stands twice in it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.decide.figures import Figures

TICK = 10_000
Record = tuple[int, list[tuple[int, int, int]]]
"""Source; (end, cell, figure) in order of ends, as a source publishes them."""

records = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=12).map(
            lambda entries: sorted(entries, key=lambda e: e[0])
        ),
    ),
    max_size=6,
)


@given(records, st.booleans())
def test_the_sum_is_of_what_each_source_said_last(said: list[Record], whole: bool) -> None:
    figures, newest = Figures(2, 1), np.zeros((2, 16), np.int64)
    for source, entries in said:
        ends, cells, values = (np.array(column, np.int64) for column in zip(*entries, strict=True))
        figures.take(source, ends * TICK, cells, values[:, None])
        for _, cell, value in entries:
            newest[source, cell] = value
    for end in sorted(figures.waiting()):
        if whole:
            figures.apply(end)
        else:
            figures.add(end)
    assert figures.totals[:, 0].tolist() == newest.sum(axis=0).tolist()


@given(records)
def test_what_changed_is_told_cell_by_cell(said: list[Record]) -> None:
    figures, other = Figures(2, 1), Figures(2, 1)
    for source, entries in said:
        ends, cells, values = (np.array(column, np.int64) for column in zip(*entries, strict=True))
        for each in (figures, other):
            each.take(source, ends * TICK, cells, values[:, None])
    for end in sorted(figures.waiting()):
        before = figures.totals.copy()
        other.add(end)
        changed = figures.apply(end)
        assert changed.tolist() == np.flatnonzero((figures.totals != before).any(axis=1)).tolist()
        assert (figures.totals == other.totals).all()
