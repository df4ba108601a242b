"""Detectors in DECIDE: readings at regular ends, learning, direction, the end of an anomaly, rest, and what rules get to see."""

from __future__ import annotations

import json
import struct

import pytest
from pydantic import ValidationError

from core.decide.anomalies import RESTS_AFTER, Series
from core.decide.explain import explain
from core.decide.product import ProductState
from core.detect.registry import DETECTORS
from schemas.definitions import Detector, Product
from schemas.detections import Anomaly, AnomalyEnded, Detection
from schemas.registers import Patch, Registers

T0 = 1_767_225_600_000
EVERY = 300_000
CFG = Product(tenant="acme", name="shop")


def a_detector(**more: object) -> Detector:
    return Detector.model_validate({"name": "d", "metric": "events", "learn": 100, "keep_firing_for_s": 1_500, **more})


def a_product(*detectors: Detector) -> ProductState:
    product = ProductState("acme", "shop", 1)
    product.configure(CFG, [], 1, detectors=detectors)
    return product


def feed(
    product: ProductState, end: int, events: int, users: int = 5, names: list[str] | None = None
) -> list[Detection]:
    """One closed end of the 5m window, with these figures of every name."""
    known = names or ["*"]
    ids = struct.pack(f"<{len(known)}q", *range(len(known)))
    columns = [struct.pack(f"<{len(known)}q", *[v] * len(known)) for v in (users, events, users)]
    record = Registers(
        source="events.usage",
        partition=0,
        tenant="acme",
        product="shop",
        names=known,
        columns=["users", "events", "organic"],
        patches=[Patch("5m", end, 0, ids, columns)],
        clock=end,
        act=True,
    )
    product.take(record, product.clocks, product.clocks)
    product.clocks[:] = end
    return [d for _, _, ds in product.judge(product.clocks, product.clocks) for d, _ in ds if "anomaly" in d.kind]


def usual(i: int) -> int:
    return 100 + i * 7 % 11


def learnt(*detectors: Detector, readings: int = 200) -> tuple[ProductState, int]:
    product = a_product(*detectors)
    for i in range(readings):
        assert feed(product, T0 + i * EVERY, usual(i)) == []
    return product, T0 + readings * EVERY


def test_an_anomaly_begins_with_its_band_and_ends_when_readings_have_been_ordinary_for_long_enough() -> None:
    product, at = learnt(a_detector())
    (began,) = feed(product, at, 900)
    assert isinstance(began, Anomaly)
    assert (began.subject, began.at, began.value, began.direction) == ("product:shop", at, 900.0, "up")
    assert began.expected == pytest.approx(105, abs=2) and began.low < 100 and 112 < began.high < 900
    assert began.score >= began.limit == 2.7 and began.since == at
    assert began.window_start == at - 300_000 and began.algorithm == "level"
    told: list[tuple[int, Detection]] = []
    for i in range(1, 60):
        told += [(i, d) for d in feed(product, at + i * EVERY, usual(i))]
    ((when, ended),) = told
    assert isinstance(ended, AnomalyEnded) and ended.fired_at == at
    assert (ended.expected, ended.high) == (began.expected, began.high)
    assert when >= 5, "ordinary for 1,500 s"
    case = explain(began, CFG, 5)
    assert "unusually high" in case.reason and case.numbers["expected"] == began.expected
    assert case.thresholds == {"limit": 2.7}
    assert "ordinary again" in explain(ended, CFG, 5).reason


def test_nothing_is_detected_while_it_learns() -> None:
    product, at = learnt(a_detector(learn=300))
    assert feed(product, at, 900) == []


@pytest.mark.parametrize(("direction", "found"), [("up", 0), ("down", 1), ("both", 1)])
def test_the_direction_counts(direction: str, found: int) -> None:
    product, at = learnt(a_detector(direction=direction))
    told = [d for i in range(12) for d in feed(product, at + i * EVERY, 1)]
    assert len(told) == found
    assert all(isinstance(d, Anomaly) and d.direction == "down" for d in told)


def test_traffic_that_stops_is_read_too_by_the_clock_alone() -> None:
    product, at = learnt(a_detector(for_s=1_200))
    assert feed(product, at, 0, users=0) == [], "not yet for long enough"
    product.clocks[:] = at + 40 * EVERY
    judged = list(product.judge(product.clocks, product.clocks))
    found = [d for _, _, ds in judged for d, _ in ds if isinstance(d, (Anomaly, AnomalyEnded))]
    assert [(d.kind, d.at) for d in found] == [("anomaly", at + 4 * EVERY)]
    assert len(judged) == 40, "an end every five minutes although nothing changes"


def test_a_series_at_rest_is_read_again_when_its_figure_moves() -> None:
    product, at = learnt(a_detector())
    feed(product, at, 0, users=0)
    later = at + 3 * RESTS_AFTER * EVERY
    product.clocks[:] = later
    assert len(list(product.judge(product.clocks, product.clocks))) < 2 * RESTS_AFTER
    assert product.due == []
    series = product.anomalies.series["d", "*"]
    read = series.readings
    feed(product, later + 10_000, 50)
    assert series.readings == read, "not at an end of its own"
    product.clocks[:] = later + EVERY
    list(product.judge(product.clocks, product.clocks))
    assert series.readings == read + 1 and series.value == 50.0


def test_each_feature_has_a_series_of_its_own_from_its_first_use_on() -> None:
    product = a_product(a_detector(metric="users", learn=20))
    for i in range(60):
        feed(product, T0 + i * EVERY, 9, users=50 + i % 5, names=["*", "export"] if i >= 20 else ["*"])
    assert {name for _, name in product.anomalies.series} == {"export"}
    assert product.anomalies.series["d", "export"].readings == 40
    (found,) = feed(product, T0 + 60 * EVERY, 9, users=900, names=["*", "export"])
    assert found.subject == "feature:export"


def test_a_definition_that_goes_or_changes_its_algorithm_begins_anew() -> None:
    product, at = learnt(a_detector())
    product.anomalies.dirty.clear()
    product.configure(CFG, [], 2, detectors=[a_detector(limit=4.0)])
    assert product.anomalies.series, "another limit keeps what was learnt"
    product.configure(CFG, [], 3, detectors=[a_detector(detector="daily")])
    assert not product.anomalies.series and product.anomalies.dirty == {("d", "*")}
    feed(product, at, 100)
    product.configure(CFG, [], 4)
    assert not product.anomalies.series
    assert feed(product, at + EVERY, 100_000) == []


def test_a_memory_of_another_layout_is_not_taken_up() -> None:
    series = Series("level", DETECTORS["level"].begin(), 7, 3.0)
    row = json.loads(json.dumps(series.row()))
    assert Series.of(row) == series
    row[1][0] = 99.0
    assert Series.of(row) is None
    row[0] = "a detector of tomorrow"
    assert Series.of(row) is None


def test_readings_are_at_ends_of_the_window() -> None:
    assert a_detector(window="1h", every_s=120).every_s == 120
    with pytest.raises(ValidationError, match="every_s: windows of 1h end every 60 s"):
        a_detector(window="1h", every_s=90)
