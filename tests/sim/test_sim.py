"""A slice of the simulation (`make sim` runs the rest): the real transport under crashes, zombies, rebalances, bad networks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings

from tests.sim.points import POINTS
from tests.sim.schedule import Action, Schedule, schedules
from tests.sim.seeds import run_seed
from tests.sim.world import run
from transport.runner import Runner

SLICE = 250


@pytest.mark.parametrize("part", range(8))
def test_seeds(part: int) -> None:
    """2,000 seeds in all: state, outputs and dead letters equal the fold of the log, each once, and nothing stalls."""
    wrong = {}
    for seed in range(part * SLICE, (part + 1) * SLICE):
        differences = run_seed(seed).differences
        if differences:
            wrong[f"python -m tests.sim --seed {seed}"] = differences
    assert not wrong


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(schedules())
def test_any_schedule(schedule: Schedule) -> None:
    """As Hypothesis draws them, which shrinks what fails."""
    assert run(schedule).differences == []


def test_a_letter_is_written_before_the_position_behind_it() -> None:
    """What the first 10,000 seeds found: a task that keeps its state outside Kafka lost the dead letter of a stored batch that
    could not be read, when its worker was killed between the agent's own transaction and the checkpoint.
    """
    rows = [Action(at, kind, 2, 2) for at in (0.5, 1.5, 2.5) for kind in ("rows", "spoiled", "rows")]
    before = [n for n, point in enumerate(POINTS) if point.function == "Runner._outside"]
    schedules = [
        Schedule(times, (Action(0.0, "kill_at", 0, point, 1.0, times), *rows), 1, 1, outside=True)
        for point in before
        for times in range(1, 7)
    ]

    async def never(*_: object) -> None:
        pass

    with mock.patch.object(Runner, "set_spoiled_aside", never):
        found = next(plan for plan in schedules if any("no dead letter" in said for said in run(plan).differences))
    assert run(found).differences == []


def test_a_dead_sender_holds_nobody_up() -> None:
    """What seed 2355 found: a task that keeps its state outside Kafka waited for ever for a dead letter to be written, because the
    sender of the producer that such tasks share had died.
    """
    actions = [Action(0.5, "rows", 2, 2), Action(1.17, "freeze_at", 0, 0, 3.0, 1), Action(2.6, "spoiled", 2, 1)]
    schedules = [
        Schedule(
            seed, (*(replace(a, size=n) if a.kind == "freeze_at" else a for a in actions), dies), 2, 1, outside=True
        )
        for n, point in enumerate(POINTS)
        if point.function in ("Runner.set_spoiled_aside", "Runs.produce", "_written")
        for dies in (Action(at, "sender_dies", 0) for at in (3.5, 4.5))
        for seed in range(6)
    ]

    async def trusting(_: object, work: Coroutine[Any, Any, Any], __: int | None) -> Any:
        return await work

    with mock.patch("transport.runs.transact", trusting):
        assert any("stalled" in said for plan in schedules for said in run(plan).differences)
    assert [run(plan).differences for plan in schedules] == [[]] * len(schedules)


def test_what_the_slice_sees() -> None:
    """The faults are not only scheduled, they happen, and crash points are hit; `make sim` asks for all of them."""
    outcomes = [run_seed(seed) for seed in range(150)]
    seen = {name for outcome in outcomes for name, count in outcome.counts.items() if count}
    assert seen >= {"kills", "zombies", "rebalances", "glitches", "dropped", "compact", "hang", "abort", "spoiled"}
    hit = {point for outcome in outcomes for point in outcome.points}
    assert len(hit) > len(POINTS) * 2 / 3


def test_the_same_run_in_another_process() -> None:
    """Nothing depends on hashing, addresses or the clock: a seed that failed fails again."""
    program = (
        "from tests.sim.schedule import of_seed; from tests.sim.world import run\n"
        "for seed in range(12):\n"
        "    o = run(of_seed(seed)); print(seed, o.steps, repr(o.virtual_s), sorted(o.points.items()), sorted(o.counts.items()))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in ("1", "2")
    ]
    assert told[0] == told[1] and len(told[0].splitlines()) == 12
