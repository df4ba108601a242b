"""Evidence: its formula beside scipy's, its coverage and its false alarms in simulations, however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import betaln
from scipy.stats import t as student

from core.outcomes.evidence import MIN_PAIRS, difference, log_evidence, mean_interval
from core.outcomes.report import t_quantile


def oracle(s: int, n: int, t: int, m: int, d: float) -> float:
    """Log evidence against a difference of d, by scipy alone."""

    def fit(q: float) -> float:
        p = q + d
        parts = ((s, p), (n - s, 1 - p), (t, q), (m - t, 1 - q))
        return -sum(k * math.log(max(x, 1e-300)) for k, x in parts if k)

    found = minimize_scalar(fit, bounds=(max(0.0, -d), min(1.0, 1 - d)), method="bounded", options={"xatol": 1e-12})
    mixed = sum(betaln(k + 0.5, of - k + 0.5) - betaln(0.5, 0.5) for k, of in ((s, n), (t, m)))
    return float(mixed + found.fun)


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_formula(n: int, m: int, data: st.DataObject) -> None:
    s, t = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    assert log_evidence(s, n, t, m) == pytest.approx(oracle(s, n, t, m, 0.0), abs=1e-4)


@pytest.mark.parametrize(
    ("s", "n", "t", "m"), [(60, 100, 30, 100), (3, 10, 0, 2), (500, 9_000, 30, 1_000), (7, 7, 0, 7)]
)
def test_the_interval_ends_where_evidence_is_conclusive(s: int, n: int, t: int, m: int) -> None:
    found = difference(s, n, t, m, 0.05)
    assert found is not None and -1 <= found.low <= s / n - t / m <= found.high <= 1
    for edge in (e for e in found if abs(e) < 0.999):
        assert oracle(s, n, t, m, edge) == pytest.approx(math.log(20), abs=1e-3)


@given(st.integers(0, 50), st.integers(0, 50), st.data())
def test_the_verdict_and_the_interval_say_the_same(n: int, m: int, data: st.DataObject) -> None:
    s, t = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found = difference(s, n, t, m, 0.1)
    if found is None:
        assert not n or not m
        return
    sure = log_evidence(s, n, t, m) >= math.log(10) + 1e-6
    unsure = log_evidence(s, n, t, m) <= math.log(10) - 1e-6
    outside = not found.low <= 0 <= found.high
    assert not (sure and not outside) and not (unsure and outside)


def looks(seed: int, p: float, q: float, holdout: float, subjects: int) -> tuple[int | None, bool]:
    """(subjects until it was conclusive at 5 %, whether the true difference ever left the interval), looking all the time."""
    rng = np.random.default_rng(seed)
    held = rng.random(subjects) < holdout
    hit = rng.random(subjects) < np.where(held, q, p)
    n, m = np.cumsum(~held), np.cumsum(held)
    s, t = np.cumsum(hit & ~held), np.cumsum(hit & held)
    concluded: int | None = None
    missed = False
    for i in range(19, subjects, 10):
        sums = (int(s[i]), int(n[i]), int(t[i]), int(m[i]))
        if concluded is None and log_evidence(*sums) >= math.log(20):
            concluded = i + 1
        if i % 500 == 499 and seed % 3 == 0 and (found := difference(*sums, 0.05)) is not None:
            missed = missed or not found.low <= p - q <= found.high
    return concluded, missed


@pytest.mark.parametrize(("share", "holdout"), [(0.05, 0.1), (0.3, 0.5)])
def test_without_an_effect_false_alarms_stay_below_alpha(share: float, holdout: float) -> None:
    runs = [looks(seed, share, share, holdout, 1_500) for seed in range(300)]
    alarms = sum(concluded is not None for concluded, _ in runs)
    assert alarms <= 300 * 0.05, "alpha bounds it, and the bound is not tight"
    assert sum(missed for _, missed in runs) <= 100 * 0.05


def test_with_an_effect_the_verdict_comes() -> None:
    runs = [looks(seed, 0.25, 0.10, 0.2, 4_000) for seed in range(60)]
    concluded = sorted(c for c, _ in runs if c is not None)
    assert len(concluded) >= 57 and concluded[len(concluded) // 2] < 1_500
    assert sum(missed for _, missed in runs) <= 3


def test_pairs() -> None:
    assert mean_interval(MIN_PAIRS - 1, 1.0, 0.5, 0.05) is None
    alarms = found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        for effect in (0.0, 0.8):
            gaps = rng.normal(effect, 1.0, 120)
            sure = False
            for n in range(MIN_PAIRS, 121, 5):
                part = gaps[:n]
                interval = mean_interval(n, float(part.mean()), float(((part - part.mean()) ** 2).sum()), 0.05)
                sure = sure or (interval is not None and not interval.low <= 0 <= interval.high)
            alarms += sure and not effect
            found += sure and bool(effect)
    assert alarms <= 300 * 0.05 + 7, "approximate for few pairs: within two standard errors of alpha"
    assert found >= 290


@pytest.mark.parametrize("degrees", [3, 5, 6, 12, 54, 1_000])
def test_quantiles_of_student(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(float(student.ppf(0.975, degrees)), rel=0.01)
