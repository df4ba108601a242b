"""The real METER in the simulation: what it published and keeps equals one fold of the log, whatever happened to its workers."""

from __future__ import annotations

from dataclasses import replace

from tests.sim.log import Row
from tests.sim.metering import Metering
from tests.sim.mutations import MUTATIONS
from tests.sim.schedule import Schedule, of_seed
from tests.sim.world import run

SEEDS = 60


def plan(seed: int) -> Schedule:
    return replace(of_seed(seed), outside=False)


def test_meter() -> None:
    assert {seed: found for seed in range(SEEDS) if (found := run(plan(seed), Metering()).differences)} == {}


def test_meter_has_something_to_publish() -> None:
    """The rows of a run close windows: the comparison is not of nothing."""
    seen: list[Row] = []

    class Watched(Metering):
        def differences(self, broker, partition):  # type: ignore[no-untyped-def]
            seen.extend(row for log in broker.topics["p.meter.registers"] for row in log.committed())
            return super().differences(broker, partition)

    assert run(plan(3), Watched()).differences == []
    assert len(seen) > 10


def test_a_mutation_is_seen_in_meter() -> None:
    with MUTATIONS["gaps are not seen"]():
        assert any(run(plan(seed), Metering()).differences for seed in range(SEEDS))
