"""The ledger of one product: parts in, experiments and their verdicts out; days and response times for the report.

Counts of an hour are added when every partition of `signals` has told that it counted it, hours in order; so what an experiment stands
at, and when its verdict falls, does not depend on how partitions were interleaved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

from core.outcomes.evidence import Interval, difference, log_evidence, mean_interval
from schemas.outcomes import Verdict
from schemas.parts import Arms, Counted, Day, Pair, Took

DAY_MS: Final = 86_400_000
DAYS_KEPT: Final = 64
BUCKETS_A_DOUBLING: Final = 8


@dataclass(slots=True)
class Experiment:
    """One rule as it is measured: sums, and the verdict so far."""

    signature: str
    version: int
    since: int
    at: int = 0
    treated: list[float] = field(default_factory=lambda: [0.0] * 4)
    """subjects, converted, sum of values, sum of their squares."""
    held: list[float] = field(default_factory=lambda: [0.0] * 4)
    forecast: list[float] = field(default_factory=lambda: [0.0] * 4)
    pairs: int = 0
    mean: float = 0.0
    squares: float = 0.0
    verdict: Verdict = "no_effect_yet"
    verdict_at: int | None = None
    rows: int = 0
    """Published so far."""

    def add(self, counted: Counted) -> None:
        """Take in an hour of one partition."""
        for sums, more in (
            (self.treated, counted.treated),
            (self.held, counted.held),
            (self.forecast, counted.forecast),
        ):
            for i, value in enumerate(more):
                sums[i] += value
        self.version, self.at = max(self.version, counted.version), counted.end

    def pair(self, pair: Pair) -> None:
        """Take in one comparison with the time before (Welford's update)."""
        self.pairs += 1
        gap = (pair.after - pair.before) - self.mean
        self.mean += gap / self.pairs
        self.squares += gap * ((pair.after - pair.before) - self.mean)
        self.version, self.at = max(self.version, pair.version), pair.end

    @property
    def uplift(self) -> float | None:
        """Treated less held, or after less before."""
        if self.pairs:
            return self.mean
        n, m = self.treated[0], self.held[0]
        return self.treated[1] / n - self.held[1] / m if n and m else None

    def interval(self, alpha: float) -> Interval | None:
        """Of the uplift."""
        if self.pairs:
            return mean_interval(self.pairs, self.mean, self.squares, alpha)
        n, s, m, t = (int(v) for v in (*self.treated[:2], *self.held[:2]))
        return difference(s, n, t, m, alpha)

    def judge(self, alpha: float, direction: str) -> Verdict | None:
        """The new verdict where the evidence is conclusive and says another one. A verdict stays until the contrary is shown."""
        if self.pairs:
            interval = mean_interval(self.pairs, self.mean, self.squares, alpha)
            sure = interval is not None and not interval.low <= 0 <= interval.high
        else:
            n, s, m, t = (int(v) for v in (*self.treated[:2], *self.held[:2]))
            sure = log_evidence(s, n, t, m) >= -math.log(alpha)
        uplift = self.uplift
        if not sure or not uplift:
            return None
        found: Verdict = "working" if (uplift > 0) == (direction == "up") else "harmful"
        if found == self.verdict:
            return None
        self.verdict, self.verdict_at = found, self.at
        return found

    def gain(self) -> tuple[float, float, float] | None:
        """What the treated brought in beyond what as many held out would have: estimate and 95 % interval (Welch)."""
        (n, _, v, vv), (m, _, w, ww) = self.treated, self.held
        if n < 2 or m < 2 or not (vv or ww):
            return None
        spread = (vv - v * v / n) / (n - 1) / n + (ww - w * w / m) / (m - 1) / m
        gain, margin = n * (v / n - w / m), 1.959964 * n * math.sqrt(max(0.0, spread))
        return gain, gain - margin, gain + margin


@dataclass(frozen=True, slots=True)
class Ended:
    """A day that has ended, after which reports are due: they wait for every exposure that ended in it to be counted."""

    end: int
    act: bool
    figures: dict[str, Experiment]
    """Experiments with the time before, as they stood then."""


class Ledger:
    """Everything about outcomes of one product. `partitions`: of `signals`."""

    def __init__(self, partitions: int) -> None:
        self.upto = [-1] * partitions
        self.waiting: dict[int, list[Counted]] = {}
        """Hour → counts that some partition has not caught up with."""
        self.experiments: dict[str, Experiment] = {}
        """Name of the rule → its experiment."""
        self.days: list[tuple[int, dict[str, float]]] = []
        self.took: dict[int, dict[int, int]] = {}
        """Day → bucket of response times → commands."""
        self.ended: list[Ended] = []
        """Oldest first."""

    def arms(self, part: Arms) -> list[int]:
        """Take in a partition's counts: the hours that are complete now, in order, each to be added with `hour`."""
        if not 0 <= part.partition < len(self.upto) or part.upto <= self.upto[part.partition]:
            return []
        for counted in part.counted:
            self.waiting.setdefault(counted.end, []).append(counted)
        self.upto[part.partition] = part.upto
        return sorted(e for e in self.waiting if e <= self.complete)

    @property
    def complete(self) -> int:
        """Exposures that ended before this are counted by every partition."""
        return min(self.upto)

    @property
    def newest(self) -> int:
        """The end of the newest day; 0 before the first."""
        return self.days[-1][0] if self.days else 0

    def hour(self, end: int) -> list[str]:
        """Add the counts of a complete hour: the rules whose experiments moved."""
        moved: set[str] = set()
        for counted in sorted(self.waiting.pop(end), key=lambda c: (c.rule, c.version, c.signature)):
            found = self._experiment(counted.rule, counted.signature, counted.version, end)
            if found is not None:
                found.add(counted)
                moved.add(counted.rule)
        return sorted(moved)

    def pair(self, part: Pair) -> bool:
        """Take in a comparison with the time before; whether it counts."""
        found = self._experiment(part.rule, part.signature, part.version, part.end)
        if found is not None:
            found.pair(part)
        return found is not None

    def day(self, part: Day) -> bool:
        """Take in a day's figures; whether it is news."""
        if self.days and part.end <= self.days[-1][0]:
            return False
        self.days.append((part.end, part.figures))
        del self.days[:-DAYS_KEPT]
        for old in [d for d in self.took if d < part.end - DAYS_KEPT * DAY_MS]:
            del self.took[old]
        return True

    def wait(self, part: Day) -> None:
        """Reports are due after this day."""
        figures = {name: replace(e) for name, e in self.experiments.items() if e.pairs}
        self.ended.append(Ended(part.end, part.act, figures))

    def reported(self, upto: int) -> list[Ended]:
        """The days up to there whose reports are told now, once; those of each see the experiments as `standing` gives them."""
        found = [e for e in self.ended if e.end <= upto]
        self.ended = [e for e in self.ended if e.end > upto]
        return found

    def standing(self, ended: Ended) -> dict[str, Experiment]:
        """The experiments at the end of the day, where no later hour has been added: figures that came since are left out."""
        return {name: e for name, e in self.experiments.items() if not e.pairs} | ended.figures

    def response(self, part: Took) -> None:
        """Take in how long a command took to its delivery."""
        buckets = self.took.setdefault((part.at // DAY_MS + 1) * DAY_MS, {})
        bucket = math.ceil(math.log2(max(1, part.ms)) * BUCKETS_A_DOUBLING)
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def _experiment(self, rule: str, signature: str, version: int, at: int) -> Experiment | None:
        """The experiment that the counts belong to; a changed rule begins a new one, counts of an older one are over."""
        found = self.experiments.get(rule)
        if found is None or (found.signature != signature and version > found.version):
            rows = found.rows if found is not None else 0
            found = self.experiments[rule] = Experiment(signature, version, at, rows=rows)
        return found if found.signature == signature else None

    # --- state --------------------------------------------------------------------------------------------------------

    def row(self) -> list[object]:
        """What a checkpoint keeps."""
        waiting = [[_counted(c) for c in counts] for counts in self.waiting.values()]
        experiments, ended = _rows(self.experiments), [[e.end, e.act, _rows(e.figures)] for e in self.ended]
        took = [[day, sorted(buckets.items())] for day, buckets in sorted(self.took.items())]
        return [self.upto, waiting, experiments, self.days, took, ended]

    def restore(self, row: list[Any]) -> None:
        """Take back what a checkpoint kept."""
        upto, waiting, experiments, days, took, *more = row
        ended = more[0] if more else []  # before reports waited, there was none
        self.upto = list(upto)
        for counts in waiting:
            for counted in counts:
                self.waiting.setdefault(counted[0], []).append(Counted(*counted))
        self.experiments = {name: Experiment(*rest) for name, *rest in experiments}
        self.ended = [Ended(end, act, {name: Experiment(*rest) for name, *rest in rows}) for end, act, rows in ended]
        self.days = [(end, figures) for end, figures in days]
        self.took = {day: dict(buckets) for day, buckets in took}


def _rows(experiments: dict[str, Experiment]) -> list[list[object]]:
    return [
        [
            name,
            *(e.signature, e.version, e.since, e.at, e.treated, e.held, e.forecast),
            *(e.pairs, e.mean, e.squares, e.verdict, e.verdict_at, e.rows),
        ]
        for name, e in sorted(experiments.items())
    ]


def _counted(c: Counted) -> list[object]:
    return [c.end, c.rule, c.signature, c.version, c.treated, c.held, c.forecast]
