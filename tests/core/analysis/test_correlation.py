"""Correlation of changes against numpy, its interval, and what is said where little is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.analysis.correlation import LEAST_CHANGES, correlate
from core.analysis.page import correlation_page

RATES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=LEAST_CHANGES + 1, max_size=60)


@given(RATES)
def test_equal_to_numpy_on_the_changes(rates: list[tuple[float, float]]) -> None:
    a = [(i, x) for i, (x, _) in enumerate(rates)]
    b = [(i, y) for i, (_, y) in enumerate(rates)]
    (pair,) = correlate({"a": a, "b": b}, "a")
    dx, dy = np.diff([x for _, x in a]), np.diff([y for _, y in b])
    assert pair.changes == len(dx)
    if pair.correlation is None:
        assert dx.std() * dy.std() * len(dx) <= 1e-11
        return
    assert pair.low is not None and pair.high is not None
    assert -1 <= pair.low <= pair.correlation <= pair.high <= 1
    if dx.std() > 1e-3 and dy.std() > 1e-3:
        assert pair.correlation == pytest.approx(np.corrcoef(dx, dy)[0, 1], abs=1e-6)


def test_what_moves_together_comes_first_and_what_merely_grows_is_not_together() -> None:
    chance = np.random.default_rng(4)
    steps = chance.normal(0, 0.01, 200)
    mine = 0.3 + np.cumsum(steps)
    series = {
        "export": list(enumerate(mine.tolist())),
        "share": list(enumerate((0.2 + np.cumsum(steps + chance.normal(0, 0.002, 200))).tolist())),
        "against": list(enumerate((0.5 - np.cumsum(steps + chance.normal(0, 0.004, 200))).tolist())),
        "grows": list(enumerate((0.1 + np.cumsum(0.002 + chance.normal(0, 0.01, 200))).tolist())),
        "new": [(198, 0.1), (199, 0.2)],
        "still": [(0, 0.4)],
    }
    found = {p.feature: p for p in correlate(series, "export")}
    assert [*found][:2] == ["share", "against"]
    assert found["share"].clear and (found["share"].correlation or 0) > 0.9
    assert found["against"].clear and (found["against"].correlation or 0) < -0.8
    assert not found["grows"].clear
    assert found["new"].correlation is None and found["still"].correlation is None


def test_a_rate_holds_until_the_next_one_is_told() -> None:
    every = [(i, (i % 4) / 10) for i in range(40)]
    told = [(i, r) for i, r in every if i == 0 or r != ((i - 1) % 4) / 10]
    assert correlate({"a": every, "b": every}, "a")[0].correlation == pytest.approx(1)
    assert correlate({"a": every, "b": told}, "a")[0].correlation == pytest.approx(1)


def test_the_page_escapes_names_and_draws_what_is_known() -> None:
    series = {
        "a": [(i, (i % 3) / 10) for i in range(20)],
        "<b>": [(i, (i % 3) / 5) for i in range(20)],
        "c": [(0, 0.1)],
    }
    page = correlation_page("acme", "shop & co", "a", correlate(series, "a"))
    assert "&lt;b&gt;" in page and "<b>" not in page and "shop &amp; co" in page
    assert page.count("<circle") == 1 and "not known" in page
    assert "1 of 2 other features clearly" in page
