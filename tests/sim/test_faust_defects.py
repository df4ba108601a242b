"""Faust's four offset defects, each put alone into our transport, are found; the same book-keeping without them is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim.faust_offsets import DEFECTS, Defect, offsets_as_faust
from tests.sim.mutations import MUTATIONS
from tests.sim.schedule import of_seed
from tests.sim.shrink import shrunk
from tests.sim.world import run

MOST = 2_000


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_found(defect: Defect) -> None:
    with offsets_as_faust(defect):
        found = next((seed for seed in range(MOST) if run(of_seed(seed)).differences), None)
    assert found is not None, f"{defect} was not found in {MOST} seeds"
    assert run(of_seed(found)).differences == [], "it is the defect that is found"


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_other_mutations_are_found(mutation: str) -> None:
    """What the simulation is worth: the order of recovery, failed commits, positions, gaps."""
    with MUTATIONS[mutation]():
        assert any(run(of_seed(seed)).differences for seed in range(MOST))


def test_the_control_has_no_differences() -> None:
    """Offsets kept Faust's way are right, too, without the defects: so it is those that are found."""
    with offsets_as_faust(None):
        assert [seed for seed in range(300) if run(of_seed(seed)).differences] == []


def test_a_schedule_is_shrunk() -> None:
    with offsets_as_faust("no_hole_after_zero"):
        whole = next(schedule for schedule in map(of_seed, range(MOST)) if run(schedule).differences)
        least = shrunk(whole)
        assert run(least).differences
        for left_out in range(len(least.actions)):
            fewer = least.actions[:left_out] + least.actions[left_out + 1 :]
            assert not run(replace(least, actions=fewer)).differences
