"""The worlds of H and I plant their causes, and none in the twins: judged by the oracle, without a broker."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from statistics import fmean

from app.oracle.figures import Figures
from app.oracle.judged import Judge
from app.oracle.partition import Partition
from app.simulate import ladders, reported
from app.simulate.beside import Planted


def judged(test: Planted, until: int) -> Judge:
    """Events in order of time, a marker before each day as when they are acted out, up to this moment."""
    parts = {(p, n): Partition(p, n) for p in (False, True) for n in range(2)}
    broker, told = until + 30 * reported.DAY, 0

    def mark(at: int) -> None:
        word = {"type": "uptake.replay.progressed", "id": f"m{at}", "replay": "r", "at": at, "act": True}
        for part in parts.values():
            part.add(json.dumps(word).encode(), [], broker)

    for event in (e for e in test.events if e.at < until):
        if event.at // reported.DAY != told:
            told = event.at // reported.DAY
            mark(event.at)
        if event.topic not in ("events.usage", "events.performance"):
            continue
        performance = event.topic == "events.performance"
        parts[performance, zlib.crc32(event.key) % 2].add(event.value, [], broker)
    mark(until)
    return Judge(Figures([part.folded() for part in parts.values()]), ratings=reported.ratings(test))


def begun(ladder: ladders.Ladder, found: Sequence[ladders.Judged], product: str) -> list[int]:
    fact, level = ladder.level
    return [d.at for d in found if (d.product, d.kind) == (product, ladder.kind) and d.facts[fact] == level]


def test_every_intervention_has_a_cause_a_betterment_and_a_twin_without() -> None:
    test = ladders.planted()
    found = [*judged(test, ladders.START_MS + 12 * reported.DAY).found, *ladders.crossings(test.events)]
    for ladder in ladders.LADDERS:
        kind, fact, levels = ladder.better
        ends = {
            product: [
                d.at
                for d in found
                if (d.product, d.kind) == (product, kind) and (fact is None or d.facts[fact] in levels)
            ]
            for product in (ladder.stays, ladder.moves)
        }
        for product in (ladder.stays, ladder.moves):
            assert len(begun(ladder, found, product)) >= 1, (ladder.workflow, product)
        first = begun(ladder, found, ladder.moves)[0]
        assert any(first < at for at in ends[ladder.moves]), ladder.workflow
        assert not [at for at in ends[ladder.stays] if at > begun(ladder, found, ladder.stays)[0]], ladder.workflow
        assert not begun(ladder, found, ladder.twin), ladder.workflow


def test_the_third_week_of_the_reports_world_is_better_and_the_twin_has_no_three_days() -> None:
    test = reported.planted(1)
    judge = judged(test, test.until)
    days = reported.days_of(judge)
    for figure in ("engagement", "responsiveness", "adoption", "health", "satisfaction", "market_share"):
        weeks = [
            [days[reported.MONDAY + d * reported.DAY][figure] for d in range(first, first + 7)] for first in (8, 15)
        ]
        assert fmean(weeks[1]) != fmean(weeks[0]), figure
    twin = {e for (who, e), h in judge.health.items() if who[1] == reported.TWIN and h["score"] is not None}
    assert 0 < len({e for e in twin if e % reported.DAY == 0}) < 3
