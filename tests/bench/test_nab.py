"""NAB's rule by hand, the commands on small corpora made here, and what the figures are made of."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from bench import inactivity, nab
from bench.nabscore import STANDARD, probation, raw, scaled, sigmoid, worths


def rows(*which: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(which, np.int64)


def test_the_worth_of_a_row() -> None:
    of = worths(200, [(100, 109)])
    assert probation(200) == 30 and list(of.window[:31]) == [-2] * 30 + [-1]
    assert of.worth[100] == 1.0, "the first row of a window is a whole hit"
    assert of.worth[109] == pytest.approx(sigmoid(-0.1) / sigmoid(-1.0))
    assert of.worth[50] == -1.0, "before any window"
    assert of.worth[112] == pytest.approx(sigmoid(3 / 9)), "three rows behind, of nine"
    assert of.worth[199] == -1.0, "far behind"


def test_nothing_is_0_perfect_is_100_and_a_false_alarm_costs_its_weight() -> None:
    of = worths(200, [(100, 109), (150, 159)])
    assert scaled(raw(of, rows()), 2) == 0.0
    assert scaled(raw(of, rows(100, 150)), 2) == 100.0
    assert scaled(raw(of, rows(100, 103, 109, 150)), 2) == 100.0, "only the best of a window counts"
    assert raw(of, rows(60, 100, 150)) == pytest.approx(2.0 - STANDARD.false_alarm)
    assert raw(of, rows(10, 100, 150)) == 2.0, "the probation does not count"
    assert raw(of, rows(100)) == 0.0, "one hit, one miss"


def test_a_detection_lasts_until_readings_were_ordinary_for_long_enough() -> None:
    scores = np.array([0.0, 3.0, 3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 3.0])
    assert nab.detections(scores, 2.7, 3).tolist() == [1, 9]
    assert nab.detections(scores, 2.7, 0).tolist() == [1, 4, 9]
    assert nab.detections(scores, 3.1, 0).tolist() == []


def test_the_command_scores_a_corpus_and_says_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin, labels = datetime(2026, 1, 1, tzinfo=UTC), {}
    for folder in ("a", "b"):
        rng = random.Random(folder)
        values = [100 + rng.gauss(0, 3) + 200 * (800 <= i < 820) for i in range(1_000)]
        at = [(begin + timedelta(minutes=5 * i)).strftime("%Y-%m-%d %H:%M:%S") for i in range(1_000)]
        (tmp_path / "data" / folder).mkdir(parents=True)
        lines = [f"{t},{v}" for t, v in zip(at, values, strict=True)]
        (tmp_path / "data" / folder / "x.csv").write_text("\n".join(["timestamp,value", *lines]))
        labels[f"{folder}/x.csv"] = [[at[795], at[825]]]
    (tmp_path / "combined_windows.json").write_text(json.dumps(labels))
    assert nab.main(["--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 series, 2,000 readings, 2 windows")
    found = nab.read(tmp_path)
    begun = [[nab.detections(nab.scores(nab.DETECTORS["level"], s), 2.7, 50)] for s in found]
    assert nab.Table(found, begun, STANDARD, [2.7]).score(0) > 90.0
    assert nab.main(["--data", str(tmp_path / "nowhere")]) == 2
    assert "give --data the folder" in capsys.readouterr().err


def test_the_inactivity_command_finds_who_went_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, lines = random.Random(3), []
    for customer in range(600):
        day, lasting = date(1997, 1, 1) + timedelta(days=rng.randrange(80)), rng.random() < 0.5
        while day < (date(1998, 6, 30) if lasting else date(1997, 1, 1) + timedelta(days=90)):
            lines.append(f"{customer:05} {day:%Y%m%d} 1 10.00")
            day += timedelta(days=rng.randrange(5, 60))
    file = tmp_path / "purchases.txt"
    file.write_text("\n".join(lines))
    assert inactivity.main(["--data", str(file)]) == 0
    said = {
        line.split(" AUC ")[0].strip(): float(line.split(" AUC ")[1].split()[0])
        for line in capsys.readouterr().out.splitlines()
        if " AUC " in line
    }
    assert set(said) == {"inactivity, five folds", "inactivity, forward", "BG/NBD"}
    assert all(auc > 0.9 for auc in said.values())
