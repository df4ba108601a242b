"""Which scenario a seed runs: most the plain summing task, shares METER with DECIDE or ORCHESTRATE, DISPATCH with DELIVER."""

from __future__ import annotations

from dataclasses import replace

from tests.sim.deciding import Deciding
from tests.sim.delivering import Delivering
from tests.sim.orchestrating import Orchestrating
from tests.sim.points import POINTS
from tests.sim.scenario import Scenario
from tests.sim.schedule import Schedule, of_seed
from tests.sim.summing import Summing
from tests.sim.world import Outcome, run

SHARE = 6
"""One round through all crash points in so many is DECIDE's: its runs take four times as long."""


DELIVERS = 12
"""One round in so many is DISPATCH's and DELIVER's, three before one of DECIDE's."""


def decides(seed: int) -> bool:
    """Whether the seed runs METER and DECIDE. By whole rounds, so that each crash point gets its turn under both."""
    return seed // len(POINTS) % SHARE == SHARE - 1


def delivers(seed: int) -> bool:
    """Whether the seed runs DISPATCH and DELIVER; by whole rounds, too."""
    return seed // len(POINTS) % DELIVERS == DELIVERS - 4


def orchestrates(seed: int) -> bool:
    """Whether the seed runs METER and ORCHESTRATE: as many rounds as DISPATCH's, three after one of DECIDE's."""
    return seed // len(POINTS) % DELIVERS == DELIVERS - 10


def scenario_of(seed: int) -> Scenario:
    """Made anew for each run."""
    if decides(seed):
        return Deciding()
    if orchestrates(seed):
        return Orchestrating()
    return Delivering() if delivers(seed) else Summing()


def plan_of(seed: int) -> Schedule:
    """The seed's schedule; the real roles' tasks keep no state outside Kafka."""
    plan = of_seed(seed)
    return replace(plan, outside=False) if decides(seed) or delivers(seed) or orchestrates(seed) else plan


def run_seed(seed: int) -> Outcome:
    """Run it and judge it."""
    return run(plan_of(seed), scenario_of(seed))
