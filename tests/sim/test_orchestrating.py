"""ORCHESTRATE in the simulation: runs and their commands are the interpreter's, each once, whatever happened to the workers."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

from core.task import StateRecord
from core.workflows.task import RunsTask
from tests.sim.orchestrating import Orchestrating
from tests.sim.schedule import Schedule, of_seed
from tests.sim.world import run

SEEDS = 40
drain = RunsTask.drain


def plan(seed: int) -> Schedule:
    return replace(of_seed(seed), outside=False)


def test_orchestrate() -> None:
    assert {seed: found for seed in range(SEEDS) if (found := run(plan(seed), Orchestrating()).differences)} == {}


@pytest.mark.parametrize("left_out", ["runs", "clocks"])
def test_what_is_not_in_the_checkpoint_is_missed(left_out: str) -> None:
    def part(task: RunsTask) -> list[StateRecord]:
        rows = drain(task)
        return [row for row in rows if (b"clocks" in row[0]) == (left_out == "runs")]

    with mock.patch.object(RunsTask, "drain", part):
        assert any(run(plan(seed), Orchestrating()).differences for seed in range(SEEDS))
