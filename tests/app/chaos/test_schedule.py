"""Which fault when: repeatable, fair, within its time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import app.chaos.kinds  # noqa: F401
from app.chaos.registry import KINDS, kind
from app.chaos.schedule import TRACKS, schedule

ALL = list(KINDS.values())


def test_every_kind_of_fault_of_the_issue_is_there() -> None:
    assert KINDS.keys() == {
        "kill", "term", "zombie", "add", "remove", "broker_restart", "broker_kill", "skew", "duplicates", "disorder",
        "aborts", "compacted", "disk_full", "hang", "errors", "resets", "throttles",
    }  # fmt: skip


def test_two_kinds_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="kill"):
        kind("kill", "", track="machines")(lambda stage: _nothing())


async def _nothing():  # type: ignore[no-untyped-def]
    yield ""


def test_half_an_hour_has_three_of_each_and_sixty_in_all() -> None:
    found = Counter(fault.kind.name for fault in schedule(ALL, 1, 1800.0))
    assert found.keys() == KINDS.keys() and min(found.values()) >= 3 and found.total() >= 60


@given(seed=st.integers(0, 10_000), seconds=st.floats(30, 4_000))
def test_one_seed_one_schedule_and_no_two_of_a_track_at_once(seed: int, seconds: float) -> None:
    planned = schedule(ALL, seed, seconds)
    assert planned == schedule(ALL, seed, seconds)
    for track in TRACKS:
        mine = [fault for fault in planned if fault.kind.track == track]
        assert all(a.at_s + a.lasts_s < b.at_s for a, b in pairwise(mine))
        assert all(fault.at_s + fault.lasts_s <= seconds for fault in mine)
        times = Counter(fault.kind.name for fault in mine)
        assert not times or max(times.values()) - min(times.values()) <= 1
