"""The hunt for poisonous rows: those on which a task raises. Pure book-keeping of one runner, which outlives its tasks.

A task that raised in the middle of a batch has a state that belongs to no position, so nothing is tried on it again: the runner
throws it away and recovers the last checkpoint, and the batch comes once more, this time in pieces that the hunt cuts. A piece
that raises is cut again; pieces that do not are worked, and stay so. A row that raises alone while it is suspected is condemned:
it becomes a dead letter, and the rows beside it pass. Rows are met in the log's order, so what is condemned depends on
neither the moment of a checkpoint nor on how the log was fetched.

A bug that hits every row would cost a recovery a row. So once some rows of a batch are condemned, a few spread over the rest of it
are tried alone; where more than half of them raise, the batch is poisonous as a whole: set aside, or a stop, as the operator chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.batch import Int64s

PIECES = 16
"""A batch that raised comes again in so many: 20,000 rows are down to one in four recoveries."""
SURVEY_AT = 8
"""Condemned rows of a batch at which the rest is looked over; again at each doubling."""
SAMPLE = 25
"""Rows tried alone for that."""

Doing = Literal["work", "condemned", "aside", "survey"]


@dataclass(slots=True)
class Case:
    """One batch on which the task raised."""

    begin: int
    end: int
    rows: int
    condemned: int = 0
    behind: int = 0
    """The offset after the last condemned row."""
    survey_at: int = SURVEY_AT
    survey_from: int | None = None
    """A survey is due from this offset on."""
    sample: list[int] = field(default_factory=list)
    tried: dict[int, bool] = field(default_factory=dict)
    """Offset → whether it passed."""

    def untried(self, offsets: Int64s) -> list[int]:
        """Offsets still to be tried alone. The sample is chosen, evenly spread, from the rows at hand the first time."""
        if not self.sample:
            mine = offsets[offsets < self.end]
            chosen = np.unique(np.linspace(0, len(mine) - 1, min(SAMPLE, len(mine))).astype(int))
            self.sample = [int(offset) for offset in mine[chosen]]
        there = set(offsets.tolist())
        return [offset for offset in self.sample if offset not in self.tried and offset in there]

    def mostly_poisonous(self) -> bool:
        """What the survey says."""
        return 2 * sum(not passed for passed in self.tried.values()) > len(self.tried)


@dataclass(slots=True)
class _Of:
    """What is known of one topic's partition. All lists in the log's order."""

    suspects: list[tuple[int, int]] = field(default_factory=list)
    condemned: dict[int, str] = field(default_factory=dict)
    """Offset → what it raised."""
    aside: list[tuple[int, int]] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)


class Hunt:
    """Which rows of a runner's partition are suspected, condemned or set aside. Empty, and free, where nothing ever raised."""

    def __init__(self) -> None:
        self._topics: dict[str, _Of] = {}

    def __bool__(self) -> bool:
        return bool(self._topics)

    def cut(self, topic: str, offsets: Int64s, row: int) -> tuple[int, Doing]:
        """What to do with the rows from `row` on, and up to which row (not included)."""
        of = self._topics.get(topic)
        if of is None:
            return len(offsets), "work"
        at = int(offsets[row])
        if at in of.condemned:
            return row + 1, "condemned"
        for begin, end in of.aside:
            if begin <= at < end:
                return int(np.searchsorted(offsets, end)), "aside"
        if self.surveyed(topic, at) is not None:
            return row, "survey"
        borders = [*of.condemned, *(border for pair in (*of.suspects, *of.aside) for border in pair)]
        borders += [case.survey_from for case in of.cases if case.survey_from is not None]
        nearest = min((border for border in borders if border > at), default=None)
        return len(offsets) if nearest is None else int(np.searchsorted(offsets, nearest)), "work"

    def why(self, topic: str, offset: int) -> str:
        """What a condemned row raised."""
        return self._topics[topic].condemned[offset]

    def surveyed(self, topic: str, at: int) -> Case | None:
        """The case whose rest is to be looked over, the task standing before offset `at`."""
        of = self._topics.get(topic, _Of())
        return next((c for c in of.cases if c.survey_from is not None and c.survey_from <= at < c.end), None)

    def raised(self, topic: str, offsets: Sequence[int] | Int64s, why: str) -> Case | None:
        """The task raised on these rows, worked in one piece. Gives the case where that makes its rest poisonous."""
        of = self._topics.setdefault(topic, _Of())
        begin, end = int(offsets[0]), int(offsets[-1]) + 1
        case = next((c for c in of.cases if c.begin <= begin < c.end), None)
        if case is None:
            case = Case(begin, end, len(offsets))
            of.cases.append(case)
            of.cases.sort(key=lambda c: c.begin)
        suspected = (begin, end) in of.suspects
        of.suspects = [(b, e) for b, e in of.suspects if e <= begin or b >= end]
        if len(offsets) > 1:
            firsts = [int(part[0]) for part in np.array_split(np.asarray(offsets), min(PIECES, len(offsets)))]
            of.suspects += zip(firsts, [*firsts[1:], end], strict=True)
        elif not suspected:
            of.suspects.append((begin, end))
        else:
            return self._condemn(of, case, begin, why)
        of.suspects.sort()
        return None

    def _condemn(self, of: _Of, case: Case, offset: int, why: str) -> Case | None:
        of.condemned[offset] = why
        case.condemned += 1
        case.behind = max(case.behind, offset + 1)
        if 2 * case.condemned > case.rows > 1:
            return case
        if case.condemned >= case.survey_at:
            case.survey_at, case.survey_from = 2 * case.survey_at, offset + 1
            case.sample, case.tried = [], {}
        return None

    def over(self, case: Case) -> bool:
        """The survey is over; whether the rest of the case is poisonous."""
        case.survey_from = None
        return case.mostly_poisonous()

    def set_aside(self, topic: str, case: Case) -> None:
        """Everything of the case behind its last condemned row becomes dead letters."""
        of = self._topics[topic]
        begin = case.behind
        of.suspects = [(b, e) for b, e in of.suspects if e <= begin or b >= case.end]
        if begin < case.end:
            of.aside.append((begin, case.end))
            of.aside.sort()

    def forget(self, positions: Mapping[str, int]) -> None:
        """A checkpoint stands at these next offsets: what lies before them is settled."""
        for topic, position in positions.items():
            of = self._topics.get(topic)
            if of is None:
                continue
            of.condemned = {offset: why for offset, why in of.condemned.items() if offset >= position}
            of.suspects = [pair for pair in of.suspects if pair[1] > position]
            of.aside = [pair for pair in of.aside if pair[1] > position]
            of.cases = [case for case in of.cases if case.end > position]
            if not (of.condemned or of.suspects or of.aside or of.cases):
                del self._topics[topic]

    def __str__(self) -> str:
        suspected = sum(len(of.suspects) for of in self._topics.values())
        condemned = sum(len(of.condemned) for of in self._topics.values())
        return f"looking for the rows that raise: {suspected} pieces suspected, {condemned} rows condemned"


def place(error: BaseException) -> str:
    """What was raised and where, without its message, which may hold what nobody should read."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        where = f" in {'/'.join(code.co_filename.split('/')[-2:])}:{trace.tb_lineno} ({code.co_name})"
        trace = trace.tb_next
    return f"{type(error).__name__}{where}"
