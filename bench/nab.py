"""The detectors of `core.detect` on the Numenta Anomaly Benchmark: `python -m bench.nab --data FOLDER`.

FOLDER holds `combined_windows.json` and `data/<folder>/<file>.csv` (`timestamp,value`), as the benchmark is published. A detection is
what DECIDE would publish: `core.detect.threshold` on the score, at once, over when the score has been below the limit for `--quiet`
readings. One limit serves the whole corpus; by `--limit`, or the best one. "Left out": each folder with the limit that is
best for the other folders.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.nabscore import LOW_FALSE_ALARMS, LOW_MISSES, STANDARD, Floats, Profile, Worth, raw, scaled, worths
from core.detect.protocol import Detector
from core.detect.registry import DETECTORS
from core.detect.threshold import OK, Limits, step

LIMITS = [round(2.0 + 0.05 * i, 2) for i in range(31)]
Rows = np.ndarray[tuple[int], np.dtype[np.int64]]
PROFILES = {"standard": STANDARD, "low false alarms": LOW_FALSE_ALARMS, "low misses": LOW_MISSES}


@dataclass(frozen=True, slots=True)
class Series:
    """One file of the corpus."""

    folder: str
    at: list[int]
    values: list[float]
    worth: Worth


def read(data: Path) -> list[Series]:
    """The corpus, in order of file. Raises `OSError` where it is not there."""
    labels = json.loads((data / "combined_windows.json").read_text())
    found = []
    for name, windows in sorted(labels.items()):
        path = data / "data" / name
        if not path.is_file():
            continue
        with path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        at = [_ms(row[0]) for row in rows]
        places = []
        for first, last in windows:
            inside = [i for i, t in enumerate(at) if _ms(first) <= t <= _ms(last)]
            places.append((inside[0], inside[-1]))
        found.append(Series(name.split("/")[0], at, [float(row[1]) for row in rows], worths(len(at), places)))
    return found


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def scores(detector: Detector, series: Series) -> Floats:
    """The score of every reading, read one after the other."""
    memory, found = detector.begin(), np.zeros(len(series.at))
    for i, (at, value) in enumerate(zip(series.at, series.values, strict=True)):
        memory, found[i], _ = detector.step(memory, at, value)
    return found


def detections(found: Floats, limit: float, quiet: int) -> Rows:
    """Rows at which a detection begins. A row counts as one second, so that series with gaps are treated like any."""
    limits = Limits(">=", limit, None, for_s=0, keep_firing_for_s=quiet, on_no_data="keep")
    state, rows = OK, []
    for i, score in enumerate(found.tolist()):
        if state is OK and score < limit:
            continue
        state, edge = step(state, score, i * 1000, limits)
        if edge == "crossed":
            rows.append(i)
        elif edge == "cleared":
            state = OK
    return np.array(rows, np.int64)


class Table:
    """Raw scores of every series at every limit."""

    def __init__(self, corpus: list[Series], begun: list[list[Rows]], profile: Profile, limits: list[float]) -> None:
        """`begun`: of each series, at each limit, the rows at which detections begin."""
        self.corpus, self.profile, self.limits = corpus, profile, limits
        self.raw = np.array([[raw(s.worth, rows, profile) for rows in of] for s, of in zip(corpus, begun, strict=True)])

    def best(self, without: str | None = None) -> int:
        """Index of the limit that is best for all folders but this one."""
        rows = [i for i, s in enumerate(self.corpus) if s.folder != without]
        return int(self.raw[rows].sum(axis=0).argmax())

    def score(self, at: int) -> float:
        """Of the corpus at one limit."""
        return scaled(float(self.raw[:, at].sum()), sum(s.worth.windows for s in self.corpus), self.profile)

    def left_out(self) -> tuple[float, dict[str, float]]:
        """The corpus' score when each folder has the limit that is best for the others; and these limits."""
        total, used = 0.0, {}
        for folder in sorted({s.folder for s in self.corpus}):
            at = self.best(without=folder)
            used[folder] = self.limits[at]
            total += float(self.raw[[i for i, s in enumerate(self.corpus) if s.folder == folder], at].sum())
        return scaled(total, sum(s.worth.windows for s in self.corpus), self.profile), used


def main(arguments: list[str] | None = None) -> int:
    """0 when the corpus was there."""
    parser = argparse.ArgumentParser(prog="python -m bench.nab", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the benchmark's folder")
    parser.add_argument("--quiet", type=int, default=50, help="readings below the limit that end a detection")
    parser.add_argument("--limit", type=float, default=2.7, help="a limit of your own, beside the best one")
    given = parser.parse_args(arguments)
    try:
        corpus = read(given.data)
    except OSError as error:
        print(
            f"no corpus at {given.data} ({error}); give --data the folder with combined_windows.json", file=sys.stderr
        )
        return 2
    windows = sum(s.worth.windows for s in corpus)
    print(f"{len(corpus)} series, {sum(len(s.at) for s in corpus):,} readings, {windows} windows")
    for name, detector in DETECTORS.items():
        found = [scores(detector, s) for s in corpus]
        limits = sorted({*LIMITS, given.limit})
        begun = [[detections(f, limit, given.quiet) for limit in limits] for f in found]
        for title, profile in PROFILES.items():
            table = Table(corpus, begun, profile, limits)
            at, own = table.best(), limits.index(given.limit)
            left, used = table.left_out()
            print(
                f"{name:7} {title:17} best {table.score(at):5.1f} at {table.limits[at]:.2f} · "
                f"at {given.limit:.2f} {table.score(own):5.1f} · "
                f"left out {left:5.1f} (limits {min(used.values()):.2f} to {max(used.values()):.2f})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
