"""Ratings: what is told of each window end is a plain count of those in it; nobody hears of an end before its ratings."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.others import TOPICS, OthersTask
from core.meter.ratings import Ratings
from core.people.profile import UNIT
from schemas.registers import RATING_COLUMNS, WINDOWS, Clock, Patch
from tests.core.meter.logs import T0, Record, batch, batches
from tests.core.meter.test_others import again, event, told

FEEDBACK = "events.feedback"
HOUR, DAY = 3_600_000, 86_400_000


def figures(patch: Patch) -> tuple[int, int]:
    one, two = (struct.unpack("<q", column)[0] for column in patch.columns)
    return one, two


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200 * HOUR), st.sampled_from([1, 2.5, 4, 5]), st.booleans()), max_size=30),
    st.sampled_from(sorted(WINDOWS)),
)
def test_an_end_has_the_ratings_of_its_window(rows: list[tuple[int, float, bool]], window: str) -> None:
    """Rows move the watermark as they come; what is behind it counts at the ends that are still open."""
    length, step = WINDOWS[window]
    made, watermark, seen = Ratings(), T0, list[tuple[int, float, int]]()
    at_end: dict[int, tuple[int, int]] = {}
    for after, stars, stored in rows:
        at = T0 + after
        made.add(at, stars, watermark)
        seen.append((at, stars, watermark))
        watermark = max(watermark, at - 2_000)
        at_end |= {p.end: figures(p) for p in made.close(watermark) if p.window == window}
        if stored:
            made = Ratings.of(made.row())
    at_end |= {p.end: figures(p) for p in made.close(T0 + 60 * DAY) if p.window == window}
    assert not made.due(1 << 60)
    interesting = {e for at, _, _ in seen for e in (at // step * step + step, at // step * step + step + length)}
    told_then = (0, 0)
    for end in sorted(interesting | at_end.keys()):
        there = [stars for at, stars, mark in seen if end - length <= at < end and mark < end]
        told_then = at_end.get(end, told_then)
        assert told_then == (len(there), sum(round(s * UNIT) for s in there)), end


def rated(id: str, at: int, stars: float, **more: Any) -> Record:
    return event(id, at, FEEDBACK, "rating.given", rating=stars, **more)


def story() -> list[Record]:
    """Three days of ratings, some of them an hour and a half late, one told twice, one of another product."""
    rows = [rated(str(n), T0 + n * 2 * HOUR - (n % 3) * 90 * 60_000, 1 + n % 5) for n in range(36)]
    rows.insert(20, rows[19])
    return [*rows, rated("other", T0 + 3 * DAY, 5, product="wiki")]


def run(cuts: list[int], crashes: frozenset[int]) -> dict[tuple[str, int], tuple[int, int]]:
    """(window, end) → what was told of it; checked on the way: in order, and before the clock says that the end is over."""
    task, state = OthersTask(0, 1, Catalogue(), max_ids=100_000), dict[bytes, bytes | None]()
    found, clock = dict[tuple[str, int], tuple[int, int]](), -1
    others = [(topic, 0) for topic in TOPICS if topic != FEEDBACK]
    for n, one in enumerate(batches(story(), cuts, FEEDBACK)):
        end = int(one.timestamps[-1])
        words = [*told(list(task.step(one))), *told(list(task.tick(end, others)))]
        if one.next_offset == len(story()):
            words += told(list(task.tick(end + 30 * DAY, [*others, (FEEDBACK, 0)])))
        for word in words:
            if isinstance(word, Clock):
                clock = max(clock, word.at)
            elif word.product == "shop":
                assert all(clock < patch.end <= word.clock for patch in word.patches)
                assert word.columns == (list(RATING_COLUMNS) if word.patches else [])
                found |= {(p.window, p.end): figures(p) for p in word.patches}
                clock = max(clock, word.clock)
        if n in crashes:
            task = again(task, Catalogue(), state)
    return found


@pytest.mark.parametrize(
    ("cuts", "crashes"), [([], []), ([1, 2, 3, 9, 20, 21], [0, 2, 4]), (list(range(38)), [5, 19, 30])]
)
def test_however_the_log_is_cut_the_same_is_told_and_before_the_time_is(cuts: list[int], crashes: list[int]) -> None:
    found = run(cuts, frozenset(crashes))
    assert found == run([7], frozenset())
    for end in (T0 // DAY * DAY + day * DAY for day in (1, 2, 3)):
        newest = max(e for window, e in found if window == "1d" and e <= end)
        times = [(T0 + n * 2 * HOUR - (n % 3) * 90 * 60_000, 1 + n % 5) for n in range(36)]
        stars = [s for at, s in times if end - DAY <= at < end]
        assert found["1d", newest] == (len(stars), sum(stars) * UNIT)


@pytest.mark.parametrize("type", ["review.written", "survey.answered"])
def test_only_ratings_count(type: str) -> None:
    task = OthersTask(0, 1, Catalogue())
    effects = list(task.step(batch([event("1", T0, FEEDBACK, type, rating=3)], FEEDBACK)))
    effects += list(task.tick(T0 + 2 * DAY, [(t, 0) for t in TOPICS]))
    assert all(isinstance(word, Clock) or not word.patches for word in told(effects))
