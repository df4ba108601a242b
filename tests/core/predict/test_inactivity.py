"""Inactivity: measures by hand, a model that recovers what was planted, and users placed by METER's own columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.task import MeterTask
from core.predict.inactivity import LEAST_USERS, Standing, fit, unseen
from core.predict.population import inactivity
from core.predict.quality import quality
from tests.core.meter.logs import T0, batches, usage

DAY = 86_400_000


def test_measures_by_hand() -> None:
    said, true = np.array([0.9, 0.8, 0.3, 0.3]), np.array([True, False, True, False])
    found = quality(said, true)
    assert found.auc == pytest.approx((1 + 1 + 0 + 0.5) / 4), "of four pairs two are right, one is a tie"
    assert found.brier == pytest.approx((0.01 + 0.64 + 0.49 + 0.09) / 4)
    assert found.base_brier == 0.25 and found.rows == 4
    assert found.ece == pytest.approx((0.1 + 0.8 + 0.7 + 0.3) / 4), "bins of one row each"
    assert quality(said, np.ones(4, np.bool_)).auc == 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[float, bool]]) -> None:
    rows = [(round(p, 6), t) for p, t in rows]  # what differs by less is told as equal
    said, true = np.array([p for p, _ in rows]), np.array([t for _, t in rows])
    pairs = [(p, q) for p, t in rows for q, u in rows if t and not u]
    wanted = sum((p > q) + (p == q) / 2 for p, q in pairs) / len(pairs) if pairs else 0.5
    found = quality(said, true)
    assert found.auc == pytest.approx(wanted)
    assert 0.0 <= found.ece <= 1.0 and 0.0 <= found.brier <= 1.0


def planted(n: int, seed: int) -> tuple[Standing, np.ndarray, np.ndarray]:
    """Users, the chance of each to be inactive, and what became of them."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(1, 28, n)
    gap = rng.uniform(0, 1, n) * age
    active = 1 + rng.integers(0, 20, n).astype(float)
    chance = 1 / (1 + np.exp(-(1.5 * np.log1p(gap) - 0.8 * np.log1p(active) - 0.5)))
    return Standing(age, gap, active), chance, rng.random(n) < chance


def test_a_planted_chance_is_recovered_and_calibrated() -> None:
    users, _, inactive = planted(6_000, 1)
    model = fit(users, inactive)
    assert model is not None and model.trusted
    others, chance, became = planted(6_000, 2)
    said = model.probability(others)
    assert float(np.abs(said - chance).mean()) < 0.03
    assert quality(said, became).ece < 0.03
    assert model.quality.auc == pytest.approx(quality(chance, became).auc, abs=0.03)
    assert fit(users, inactive) == model, "the same users, the same model"


def test_outcomes_that_follow_from_nothing_are_not_trusted() -> None:
    users, _, _ = planted(400, 3)
    model = fit(users, np.random.default_rng(5).random(400) < 0.5)
    assert model is not None and not model.trusted


def test_unseen_users_do_not_teach_what_is_said_of_them() -> None:
    users, _, inactive = planted(500, 4)
    before = unseen(users, inactive)
    changed = inactive.copy()
    changed[0] = not changed[0]
    after = unseen(users, changed)
    own = np.arange(500) % 5 == 0
    assert (before[own] == after[own]).all() and (before[~own] != after[~own]).any()


def test_too_few_users_and_users_who_are_all_alike_teach_nothing() -> None:
    users, _, inactive = planted(LEAST_USERS, 6)
    assert fit(users, inactive) is not None
    few = np.arange(LEAST_USERS) < LEAST_USERS - 1
    assert fit(users.of(few), inactive[few]) is None
    assert fit(users, np.ones(LEAST_USERS, np.bool_)) is None


def test_separable_outcomes_keep_finite_weights() -> None:
    users, _, _ = planted(400, 7)
    model = fit(users, users.gap > 5)
    assert model is not None and all(np.isfinite(model.weights)) and model.quality.auc > 0.98


def test_a_user_is_placed_by_meters_columns() -> None:
    """300 users: a third comes every second day, two thirds stopped two weeks ago."""
    task = MeterTask(0, 1, Catalogue())
    begin = T0 // DAY * DAY
    rows = [
        usage(f"{n}-{day}", begin + day * DAY + 3_600_000 + n, f"u{n}")
        for day in range(28)
        for n in range(300)
        if (day % 2 == 0 if n % 3 == 0 else day < 14)
    ]
    list(task.step(batches(rows, [])[0]))
    scope = task.usage.groups[1].tenant, task.usage.groups[1].product
    here, gone = (inactivity(task.usage, *scope, user, 7) for user in ("u0", "u1"))
    assert here is not None and gone is not None
    assert (here.age_days, here.gap_days, here.active_days) == (21, 0, 11)
    assert (gone.age_days, gone.gap_days, gone.active_days) == (21, 13, 8)
    assert gone.users == 300 and gone.trusted
    assert here.probability < 0.2 < 0.9 < gone.probability
    assert inactivity(task.usage, *scope, "nobody", 7) is None
    assert inactivity(task.usage, scope[0], "another", "u0", 7) is None
