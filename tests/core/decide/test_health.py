"""Ladders beside a plain one, the score's formulas, and the trend over days."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.decide.health import COMPONENTS, Inputs, assess
from core.decide.ladder import BANDS, STAGES, Ladder, levels
from core.decide.packing import decode, read_key
from core.decide.product import ProductState
from core.decide.snapshot import Snapshot
from core.people.profile import UNIT
from schemas.definitions import HealthWeights, Product
from schemas.registers import OTHERS, RATING_COLUMNS, SOURCES, Patch, Registers
from tests.core.decide.worlds import PlainLadder

HOUR = 3_600_000
T0 = 1_767_225_600_000
CFG = Product(name="shop")


@pytest.mark.parametrize(
    ("value", "level"),
    [(0.0, 1), (0.19999, 1), (0.2, 2), (0.6, 2), (0.60001, 3), (5.0, 3), (float("nan"), 0)],
)
def test_stage_borders(value: float, level: int) -> None:
    assert levels(np.array([value]), CFG.stage_borders).tolist() == [level]


@pytest.mark.parametrize(("score", "level"), [(39.99, 1), (40, 2), (59.99, 2), (60, 3), (80, 3), (80.01, 4)])
def test_band_borders(score: float, level: int) -> None:
    assert levels(np.array([score]), CFG.band_borders).tolist() == [level]


VALUES = st.sampled_from(
    [None, 0.0, 0.1, 0.18, 0.19, 0.2, 0.21, 0.22, 0.23, 0.4, 0.58, 0.59, 0.6, 0.61, 0.62, 0.63, 1.0]
)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.booleans(), VALUES), min_size=3, max_size=3), max_size=30))
def test_many_ladders_are_as_many_plain_ones(ends: list[list[tuple[bool, float | None]]]) -> None:
    """Three subjects at once; an end at which a subject's value stays and nothing is pending may be skipped for it."""
    many, plain = Ladder.of(3), [PlainLadder(CFG.stage_borders, STAGES[1:], CFG.margin) for _ in range(3)]
    values: list[float | None] = [None] * 3
    for i, row in enumerate(ends):
        values = [new if moves else old for (moves, new), old in zip(row, values, strict=True)]
        skip = not any(moves for moves, _ in row) and not many.any_pending()
        before = [p.level for p in plain]
        moved = {n: p.see(v) for n, (p, v) in enumerate(zip(plain, values, strict=True))}
        if skip:
            assert not any(moved.values())
            continue
        which, old = many.judge(
            np.arange(3),
            np.array([np.nan if v is None else v for v in values]),
            i * 60,
            60,
            CFG.stage_borders,
            CFG.margin,
        )
        assert {int(n): STAGES[o] for n, o in zip(which, old, strict=True)} == {n: before[n] for n in moved if moved[n]}
        assert [STAGES[level] for level in many.level] == [p.level for p in plain]


def test_formulas() -> None:
    found = assess(
        Inputs(
            requests=1000,
            errors=0,
            satisfied=900,
            tolerating=60,
            features=2,
            mean_rate=0.5,
            mean_fulfilment=0.75,
            dau=30,
            mau=100,
            now=120,
            before=100,
        ),
        CFG,
    )
    scores = {n: c.score for n, c in found.components.items()}
    assert scores == pytest.approx(
        {"reliability": 100, "responsiveness": 93, "adoption": 75, "engagement": 75, "trend": 60}
    )
    assert found.missing == ["satisfaction"] and found.weakest == "trend"
    assert sum(c.weight for c in found.components.values()) == pytest.approx(1)
    expected = (0.25 * 100 + 0.2 * 93 + 0.2 * 75 + 0.15 * 75 + 0.1 * 60) / 0.9
    assert found.score == pytest.approx(expected, abs=1e-9)


def test_errors_spend_the_budget() -> None:
    half = assess(Inputs(requests=10_000, errors=5, satisfied=10_000), CFG).components["reliability"]
    assert half.score == pytest.approx(50) and half.inputs["error_rate"] == 0.0005
    assert assess(Inputs(requests=10, errors=5), CFG).components["reliability"].score == 0
    perfect = CFG.model_copy(update={"slo": 1.0})
    assert assess(Inputs(requests=10, errors=1), perfect).components["reliability"].score == 0
    assert assess(Inputs(requests=10), perfect).components["reliability"].score == 100


def test_less_than_half_the_weight_is_no_data() -> None:
    assert assess(Inputs(), CFG).score is None and assess(Inputs(), CFG).missing == list(COMPONENTS)
    assert assess(Inputs(requests=5, satisfied=5), CFG).score is None, ".45 of 1"
    assert assess(Inputs(requests=5, satisfied=5, now=1, before=1), CFG).score is not None, ".55"
    only = CFG.model_copy(update={"weights": HealthWeights(**(dict.fromkeys(COMPONENTS, 0.0) | {"trend": 1.0}))})
    assert assess(Inputs(now=2, before=1), only).score == 100
    assert assess(Inputs(requests=5, satisfied=5), only).score is None


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 80), st.integers(0, 9), max_size=30), st.sampled_from(["1d", "1h", "5m"]))
def test_trend_over_days(users: dict[int, int], window: str) -> None:
    """Active users of a day change at some hours; the trend is right at every hour, also where nothing else changes."""
    product = ProductState("acme", "shop", 1)
    # Only the trend has weight, so the score is the trend and each change of it is a change of the row.
    weights = HealthWeights(**(dict.fromkeys(COMPONENTS, 0.0) | {"trend": 1.0}))
    product.configure(Product(tenant="acme", name="shop", health_window=window, weights=weights), [], 1)
    rows: dict[int, float | None] = {}
    for hour in sorted(users):
        patch = Patch("1d", T0 + hour * HOUR, 0, struct.pack("<q", 0), [struct.pack("<q", users[hour])] * 3)
        record = Registers(
            source="events.usage",
            partition=0,
            tenant="acme",
            product="shop",
            names=["*"],
            columns=["users", "events", "organic"],
            patches=[patch],
            clock=T0 + hour * HOUR,
            act=True,
        )
        product.take(record, product.clocks, product.clocks)
    for clock in range(0, 120):
        product.clocks[:] = T0 + clock * HOUR
        list(product.judge(product.clocks, product.clocks))
        for row in product.vitals.flush():
            rows[row.at] = row.score
    series, now = {}, 0
    for hour in range(-48, 120):
        now = users.get(hour, now)
        series[hour] = now
    shown: float | None = None
    for hour in range(120):
        shown = rows.get(T0 + hour * HOUR, shown)
        before = series[hour - 24]
        want = 50 + 50 * max(-1.0, min(1.0, (series[hour] - before) / before)) if before else None
        assert shown == want, hour
    assert set(BANDS) >= {"no_data"}


def test_ratings_are_a_part_of_health_also_after_a_crash() -> None:
    """Two partitions tell of ratings; the component is their mean, and goes with the last of them."""
    product = ProductState("acme", "shop", 2, len(SOURCES))
    snapshot = Snapshot(product)
    weights = HealthWeights(**(dict.fromkeys(COMPONENTS, 0.0) | {"satisfaction": 1.0}))
    cfg = Product(tenant="acme", name="shop", weights=weights)
    found: dict[int, float | None] = {}
    kept: dict[tuple[object, ...], bytes | None] = {}
    for partition, hour, count, stars in ((0, 2, 2, 9), (1, 3, 1, 1), (1, 26, 0, 0), (0, 27, 0, 0)):
        product.configure(cfg, [], 1)
        at = T0 + hour * HOUR
        patch = Patch("1d", at, 0, struct.pack("<i", 0), [struct.pack("<q", n) for n in (count, stars * UNIT)])
        record = Registers(
            source=OTHERS,
            partition=partition,
            tenant="acme",
            product="shop",
            names=["*"],
            columns=list(RATING_COLUMNS),
            patches=[patch],
            clock=at,
            act=True,
        )
        product.take(record, product.clocks, product.clocks)
        clocks = np.full(len(product.clocks), at)
        list(product.judge(clocks, clocks))
        found |= {row.at: row.score for row in product.vitals.flush()}
        rows = [(read_key(k), v) for k, v in snapshot.drain()]
        product = ProductState("acme", "shop", 2, len(SOURCES))
        snapshot = Snapshot(product)
        kept.update({tuple(k): v for k, v in rows})
        snapshot.restore([([k[0], *k[3:]], decode(v)) for k, v in kept.items() if v is not None])
    hours = {(end - T0) // HOUR: score for end, score in found.items()}
    lower = 100 * (10 / 3 - 1) / 4
    assert hours == {2: 87.5, 3: lower, 4: lower, 26: 87.5, 27: None}, "at the fourth the band has followed"
