"""Rounds end where the time would not be enough for another, and runs are measured in the halves they are asked for."""

from __future__ import annotations

import math

import pytest

from bench import rounds as module
from bench import table
from bench.rounds import rounds
from bench.uptake import Caught


@pytest.mark.parametrize(("took", "until", "wanted"), [(10, 25, 2), (10, 30, 3), (10, 5, 1), (1, math.inf, 5)])
def test_rounds_end_in_time(took: float, until: float, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    done = 0
    for turn in rounds(5, until):
        assert turn == done
        done += 1
        now[0] += took
    assert done == wanted


def test_a_run_in_halves() -> None:
    looks = tuple((float(i), 100.0 * i, 2.0 * i if i < 5 else 10.0 + (i - 5)) for i in range(11))
    caught = Caught(1_000, 10.0, 15.0, 1, looks)
    first, second = caught.before(500), caught.after(500)
    assert (first.rows, first.seconds, first.cpu_s) == (500, 5.0, 10.0)
    assert (second.rows, second.seconds, second.cpu_s) == (500, 5.0, 5.0)
    with pytest.raises(RuntimeError, match="too few"):
        caught.after(800)


def test_growth_as_a_table() -> None:
    cpu = {"10k users": 2.0, "1M users": 2.5, "40 features": 2.0, "4000 features": 2.2}
    said = table.growth(
        {
            "cpu_s_per_million": cpu,
            "cpu_s_per_million_new": {k: v + 1 for k, v in cpu.items()},
            "users_ratio": 1.25,
            "features_ratio": 1.1,
        }
    )
    assert "| 1M users | 3.50 | 2.50 |" in said and "1 million users cost 1.25 ×" in said
