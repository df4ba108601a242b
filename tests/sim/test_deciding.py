"""DECIDE in the simulation: the committed commands are the oracle's, each once, whatever happened to the workers."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

from tests.sim.deciding import Deciding
from tests.sim.schedule import Schedule, of_seed
from tests.sim.world import run

SEEDS = 40


def plan(seed: int) -> Schedule:
    return replace(of_seed(seed), outside=False)


def test_decide() -> None:
    assert {seed: found for seed in range(SEEDS) if (found := run(plan(seed), Deciding()).differences)} == {}


def test_a_memory_that_is_not_in_the_checkpoint_is_found() -> None:
    """Cool-downs and ceilings that a crash forgets."""
    nothing = mock.Mock(side_effect=lambda actor: (actor.memory.changed.clear(), [])[1])
    with mock.patch("core.decide.signals.drain_actor", nothing), mock.patch("core.decide.task.drain_actor", nothing):
        assert any(run(plan(seed), Deciding()).differences for seed in range(SEEDS))
