"""Predictions by the oracle and by METER: the same edges with the same ids, times and figures, whatever comes late."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.oracle.foresight import Alarm, foreseen
from app.oracle.judged import Found
from app.oracle.likelihood import folds_of, likeliest, measured, said_of
from app.oracle.partition import Partition
from core.detect.threshold import OK, Limits, step
from schemas.definitions import Definition
from tests.core.meter.logs import T0, Record, batch, marker, usage
from tests.core.predict.test_watch import DAY, DAYS, a_log, a_prediction, known, run

FIGURES = (
    "prediction",
    "model",
    "feature",
    "horizon_days",
    "probability",
    "limit",
    "age_days",
    "gap_days",
    "active_days",
    "measured",
    "measured_at",
    "measured_users",
    "calibration_error",
    "brier",
    "base_brier",
    "auc",
)


def by_the_oracle(log: list[Record], *predictions: Definition) -> list[Found]:
    part = Partition(performance=False, partition=0)
    for record in log:
        part.add(record.value, [], record.at)
    return foreseen([part.folded()], [json.loads(p.model_dump_json()) for p in predictions])


def same(log: list[Record], *predictions: Definition) -> list[dict[str, Any]]:
    """Both tell the same; what METER told."""
    told = [s["data"] for s in run([batch(log)], known(*predictions))]
    right = {f.id: f for f in by_the_oracle(log, *predictions)}
    assert {d["id"] for d in told} == set(right) and len(told) == len(right)
    for d in told:
        f = right[d["id"]]
        assert (d["kind"], d["subject"], d["at"]) == (f.kind, f.subject, f.at)
        assert {n: d[n] for n in FIGURES} == pytest.approx({n: f.facts[n] for n in FIGURES}, abs=1.5e-6)
    return told


def test_who_leaves() -> None:
    told = same(a_log(), a_prediction())
    assert {d["measured"] for d in told} == {"folds", "outcomes"} or len({d["kind"] for d in told}) == 2


def test_who_converts_and_who_leaves_side_by_side_and_of_two_products() -> None:
    log = a_log(users=600, convert=True, seed=8)
    other = [
        usage(f"o{i}", json.loads(r.value or b"")["occurred_at"], f"w{i % 3}", product="other")
        for i, r in enumerate(log[::9])
    ]
    log = sorted([*log, *other], key=lambda r: r.at)
    buys = a_prediction(name="buys", model="conversion", feature="pay", limit=0.2, max_error=0.3)
    told = same(log, a_prediction(product="app", horizon_days=3, limit=0.6, clear_limit=0.4), buys)
    assert {d["prediction"] for d in told} == {"buys", "leaving"} and {d["product"] for d in told} == {"app"}


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([3, 7, 14]), st.sampled_from([0, 1, 2]), st.sampled_from([0, 1]))
def test_whatever_comes_late_and_whatever_markers_say(seed: int, horizon: int, held: int, kept: int) -> None:
    rng = random.Random(seed)
    log = a_log(seed=seed, users=rng.randrange(230, 400))
    for _ in range(60):
        i = rng.randrange(len(log) - 400)
        log.insert(i + rng.randrange(400), log.pop(i))
    for n, day in enumerate(sorted(rng.sample(range(5, DAYS), 3))):
        at = next(i for i, r in enumerate(log) if json.loads(r.value or b"").get("occurred_at", 0) >= T0 + day * DAY)
        log.insert(
            max(0, at - rng.randrange(50)), marker("progressed", T0 + day * DAY + 5_000, T0 + day * DAY, replay=f"r{n}")
        )
    same(
        log,
        a_prediction(
            horizon_days=horizon,
            limit=0.6,
            clear_limit=0.4,
            for_s=held * DAY // 1000,
            keep_firing_for_s=kept * DAY // 1000,
            max_error=0.15,
        ),
    )


def test_after_a_silence_the_days_that_are_kept() -> None:
    log = a_log()
    same([*log, usage("late", T0 + 70 * DAY, "stays")], a_prediction())


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_edges_are_those_of_thresholds(values: list[float], held: int, kept: int, wide: bool) -> None:
    of = {
        "limit": 0.6,
        "clear_limit": 0.3 if wide else None,
        "for_s": held * 86_400,
        "keep_firing_for_s": kept * 86_400,
    }
    limits = Limits(op=">", on_no_data="keep", **of)  # type: ignore[arg-type]
    alarm, state = Alarm(), OK
    for n, value in enumerate(values, 1):
        state, edge = step(state, value, n * DAY, limits)
        assert alarm.judge(value, n * DAY, of) == edge


def test_the_likeliest_weights_by_hand() -> None:
    """All alike: the share; the penalty leaves the constant alone."""
    stood, true = [(0, 0, 0)] * 10, [True] * 3 + [False] * 7
    assert said_of(likeliest(stood, true), stood) == [0.3] * 10
    assert folds_of(stood, true) == pytest.approx([0.375 if i % 5 > 2 else 0.25 for i in range(10)], abs=1e-6)
    good = measured("outcomes", 0, [0.1, 0.2, 0.9, 0.8], [False, True, True, True])
    assert (good.auc, good.base_brier, good.users) == (1.0, 0.1875, 4)
    assert good.brier == pytest.approx((0.01 + 0.64 + 0.01 + 0.04) / 4)
    assert good.error == pytest.approx((0.1 + 0.8 + 0.1 + 0.2) / 4)
