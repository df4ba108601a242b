"""Detectors: steps by hand; what every one promises, by property; and that they find what is planted and nothing else."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.detect.level import Level
from core.detect.protocol import Detector, Memory
from core.detect.registry import DETECTORS
from core.detect.seasonal import Seasonal

EVERY = 300_000
HOUR = 3_600_000
ALL = pytest.mark.parametrize("detector", DETECTORS.values(), ids=list(DETECTORS))
values = st.lists(st.one_of(st.integers(0, 50), st.floats(-1e12, 1e12)).map(float), min_size=1, max_size=120)


def walk(detector: Detector, memory: Memory, readings: list[float], begin: int = 0) -> tuple[Memory, list[float]]:
    scores = []
    for i, value in enumerate(readings):
        memory, score, _ = detector.step(memory, (begin + i) * EVERY, value)
        scores.append(score)
    return memory, scores


def test_level_by_hand() -> None:
    detector = Level()
    memory, score, _ = detector.step(detector.begin(), 0, 10.0)
    assert memory[:4] == [1.0, 1.0, 10.0, 0.0], "version, readings, level, usual deviation"
    assert score == 0.0, "the first reading is what the level is"
    memory, score, up = detector.step(memory, EVERY, 12.0)
    assert memory[:4] == [1.0, 2.0, 11.0, 1.0], "the plain mean while there are few readings"
    assert up and score > 0.0
    memory, _, _ = detector.step(memory, 2 * EVERY, 11.0)
    assert memory[2] == 11.0 and memory[3] == pytest.approx(2 / 3)


def test_an_outlier_moves_the_level_as_far_as_six_usual_deviations_would() -> None:
    detector = Level()
    memory, _ = walk(detector, detector.begin(), [90.0, 110.0] * 200)
    level, usual = memory[2], memory[3]
    after, _, _ = detector.step(memory, 400 * EVERY, 1e9)
    assert after[2] - level == pytest.approx(6 * (usual + 0.05 * level) / 300)


def test_an_hour_keeps_its_height() -> None:
    detector = Seasonal(24)
    memory, _ = walk(detector, detector.begin(), [100.0 + 50.0 * (i // 12 % 24 == 9) for i in range(12 * 24 * 10)])
    busy = detector.band(memory, 10 * 24 * HOUR + 9 * HOUR, 3.0)
    quiet = detector.band(memory, 10 * 24 * HOUR + 3 * HOUR, 3.0)
    assert busy.expected == pytest.approx(150.0, abs=5.0)
    assert quiet.expected == pytest.approx(100.0, abs=5.0)


@ALL
def test_readings_as_large_as_numbers_go_leave_numbers(detector: Detector) -> None:
    """A memory that holds an infinity scores nothing any more, and cannot be written down as JSON."""
    memory = detector.begin()
    for n, reading in enumerate((1.0, 1e308, -1e308, 1.7976931348623157e308, 0.0, 1e308) * 20):
        memory, score, _ = detector.step(memory, n * 3_600_000, reading)
        assert math.isfinite(score) and all(map(math.isfinite, memory))
        assert all(map(math.isfinite, detector.band(memory, n * 3_600_000, 3.0)))


@ALL
@given(readings=values, at=st.integers(0, 120))
def test_a_memory_written_down_anywhere_goes_on_the_same(detector: Detector, readings: list[float], at: int) -> None:
    whole, scores = walk(detector, detector.begin(), readings)
    half, first = walk(detector, detector.begin(), readings[:at])
    kept = list(half)
    written = msgspec.msgpack.decode(msgspec.msgpack.encode(half))
    end, second = walk(detector, written, readings[at:], begin=min(at, len(readings)))
    assert end == whole and first + second == scores
    assert half == kept, "a memory is never changed in place"
    assert all(math.isfinite(s) and s >= 0.0 for s in scores) and all(math.isfinite(m) for m in whole)
    assert len(whole) == len(detector.begin()) and whole[0] == detector.version


@ALL
@given(readings=values, value=st.floats(-1e6, 1e6), limit=st.sampled_from([2.0, 3.0, 5.0]))
def test_the_band_is_where_the_score_stays_below_the_limit(
    detector: Detector, readings: list[float], value: float, limit: float
) -> None:
    memory, _ = walk(detector, detector.begin(), readings)
    at = len(readings) * EVERY
    band = detector.band(memory, at, limit)
    assert band.low <= band.high
    score = detector.step(memory, at, value).score
    wide = 1e-6 * (1.0 + abs(value) + abs(band.low) + abs(band.high))
    if band.low + wide < value < band.high - wide:
        assert score < limit
    elif value < band.low - wide or value > band.high + wide:
        assert score >= limit


@ALL
def test_a_jump_is_found_and_noise_is_not(detector: Detector) -> None:
    rng = random.Random(5)
    day = 24 * 12
    calm = [100.0 + rng.gauss(0, 5) for _ in range(9 * day)]
    memory, scores = walk(detector, detector.begin(), calm)
    assert sum(s >= 4.0 for s in scores[day:]) <= 3
    scored = [detector.step(memory, 9 * day * EVERY, v) for v in (100.0, 400.0, -200.0)]
    assert [s.score >= 4.0 for s in scored] == [False, True, True]
    assert [s.up for s in scored[1:]] == [True, False]


def test_only_the_seasonal_detector_misses_the_rush_of_an_hour() -> None:
    rng = random.Random(6)
    day = 24 * 12
    usual = [100.0 + 300.0 * (i // 12 % 24 == 9) + rng.gauss(0, 5) for i in range(10 * day)]
    night = 10 * day + 2 * 12
    daily, level = DETECTORS["daily"], DETECTORS["level"]
    memory, scores = walk(daily, daily.begin(), usual + usual[: 2 * 12])
    assert max(scores[7 * day :]) < 4.0, "the rush of nine o'clock is no news after a week"
    assert daily.step(memory, night * EVERY, 400.0).score >= 4.0, "at two at night it is"
    memory, _ = walk(level, level.begin(), usual + usual[: 2 * 12])
    assert level.step(memory, night * EVERY, 400.0).score < 4.0, "the level detector sees it every day"
