"""Trials of product rules: a figure in the window before a command, beside the same window `within_s` later.

The figure is read when the finding is judged, for the product's sums move on before rules act; `settle` then keeps what became a
command. Of one rule and subject one trial goes on at a time, so that no stretch of time counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from core.decide.gauges import Gauges
from core.decide.slots import next_end
from core.outcomes.arms import signature
from schemas.definitions import Product, Rule
from schemas.detections import Detection
from schemas.outcomes import Figure
from schemas.registers import ALL
from schemas.tables import WindowName


class Trial(NamedTuple):
    """One comparison with the time before."""

    cause: str
    """The detection's id."""
    rule: str
    signature: str
    version: int
    subject: str
    metric: Any
    window: WindowName
    of: str
    at: int
    due: int
    before: float
    after: float | None = None
    read: bool = False
    """Whether the window after is over; `after` is None then where there was no data."""


class Trials:
    """The trials of one product."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._open: list[Trial] = []
        """Confirmed ones, that wait for their end."""
        self._new: list[Trial] = []
        """Begun by findings about which rules have not been asked yet, in order."""

    def begin(self, found: Detection, rules: Iterable[Rule], cfg: Product, score: float | None) -> set[int]:
        """The finding may become commands of these rules: read their figures as they stand; the ends now due."""
        ends: set[int] = set()
        for rule in rules:
            if rule.outcome is None or not isinstance(rule.outcome.metric, Figure):
                continue
            figure = rule.outcome.metric
            of = name_of(figure, found.subject)
            before = self._gauges.value(figure.metric, figure.window, of, cfg, score)
            if before is None:
                continue
            due = next_end(figure.window, found.at + rule.outcome.within_s * 1000)
            self._new.append(
                Trial(
                    found.id,
                    rule.name,
                    signature(rule),
                    rule.version,
                    found.subject,
                    figure.metric,
                    figure.window,
                    of,
                    found.at,
                    due,
                    before,
                )
            )
            ends.add(due)
        return ends

    def judge(self, end: int, cfg: Product, score: float | None) -> None:
        """Read the figures of trials that end here."""
        for trials in (self._open, self._new):
            for i, trial in enumerate(trials):
                if not trial.read and trial.due == end:
                    after = self._gauges.value(trial.metric, trial.window, trial.of, cfg, score)
                    trials[i] = trial._replace(after=after, read=True)

    def settle(self, commanded: set[tuple[str, str]]) -> list[Trial]:
        """Rules have acted: which (detection, rule) gave a command. The trials that are over, in order of end."""
        for trial in self._new:
            if (trial.cause, trial.rule) not in commanded:
                continue
            if not any(t.rule == trial.rule and t.subject == trial.subject and t.due > trial.at for t in self._open):
                self._open.append(trial)
        self._new.clear()
        over = sorted((t for t in self._open if t.read), key=lambda t: (t.due, t.rule, t.subject))
        self._open = [t for t in self._open if not t.read]
        return over

    def row(self) -> list[object]:
        """What a checkpoint keeps."""
        return [list(trial) for trial in self._open]

    def restore(self, row: list[Any]) -> set[int]:
        """Take back what a checkpoint kept; the ends that are due."""
        self._open = [Trial(*trial) for trial in row]
        return {trial.due for trial in self._open}


def name_of(figure: Figure, subject: str) -> str:
    """Whose figure it is: as the rule says, else the feature or service that it is about, else the product's total."""
    if figure.of is not None:
        return figure.of
    kind, _, name = subject.partition(":")
    if kind == "feature":
        return name if figure.metric in ("adoption_rate", "users", "events", "events_per_user") else subject
    return subject if kind == "service" and figure.metric != "health_score" else ALL
