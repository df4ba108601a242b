"""The shortest schedule that still goes wrong, found by Hypothesis among the parts of one that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from tests.sim.schedule import Schedule
from tests.sim.world import Outcome, run

EXAMPLES = 400


def shrunk(schedule: Schedule, runs: Callable[[Schedule], Outcome] = run) -> Schedule:
    """A part of the schedule with the same seed that still has differences; the schedule itself where no part has."""
    count = len(schedule.actions)
    # Nearly every draw keeps nearly everything, so that one is found that fails; 0, the simplest number, leaves an action out.
    kept = st.lists(st.integers(0, 100), min_size=count, max_size=count)

    def part(numbers: list[int]) -> Schedule:
        chosen = (action for action, number in zip(schedule.actions, numbers, strict=True) if number)
        return replace(schedule, actions=tuple(chosen))

    how = settings(
        max_examples=EXAMPLES, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    try:
        return part(find(kept, lambda numbers: bool(runs(part(numbers)).differences), settings=how))
    except NoSuchExample:
        return schedule
