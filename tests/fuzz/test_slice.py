"""A slice of `make fuzz` in every test run: more than 20,000 inputs, a seed of its own, one door a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.acting import ACTING
from tests.fuzz.api import damaged_requests, gateway
from tests.fuzz.doors import DOORS
from tests.fuzz.run import Tally, fire, peak_mb

SEED = 20_251
ALL = DOORS | ACTING
SLICE = {
    "framing": 4_000, "fetching": 4_000, "cloudevents": 5_000, "meter": 6_400, "webhooks": 3_000, "definitions": 600, "yaml": 300,
    "conditions": 3_000, "templates": 1_200, "cel": 800, "triggers": 800, "workflows": 400, "detectors": 400,
}  # fmt: skip
REQUESTS = 600
MOST_MB = 500
"""More than the process had held before: the tests that ran in it until then had their own peaks."""


def judge(tally: Tally, inputs: int, before_mb: int) -> None:
    told = "\n".join(f"number {f.number}: {f.error}\n  {f.shown}" for f in tally.findings[:5])
    assert not tally.findings, f"seed {SEED}, door {tally.door}:\n{told}"
    assert tally.inputs >= inputs and sum(tally.outcomes.values()) == tally.inputs, tally.outcomes
    assert len(tally.outcomes) > 1, "nothing was refused, or nothing accepted: the door was not tried"
    assert tally.peak_mb - before_mb < MOST_MB


def test_the_slice_is_large_enough_and_a_whole_run_larger() -> None:
    from tests.fuzz.api import INPUTS

    assert set(SLICE) == set(ALL)
    assert sum(SLICE.values()) + REQUESTS >= 20_000
    whole = {name: inputs for name, (_, _, inputs) in ALL.items()} | INPUTS
    assert sum(whole.values()) >= 1_000_000
    assert all(inputs >= 20_000 for name, inputs in whole.items() if name != "schemathesis"), whole


@pytest.mark.parametrize("name", ALL)
def test_a_door_takes_or_refuses_and_never_breaks(name: str) -> None:
    door, size, _ = ALL[name]
    before = peak_mb()
    judge(fire(name, door, size, SEED, SLICE[name]), SLICE[name], before)


@pytest.mark.kafka
async def test_the_gateway_takes_or_refuses_and_what_it_takes_is_there(kafka: str, tmp_path: Path) -> None:
    before = peak_mb()
    async with gateway(kafka, tmp_path) as made:
        judge(await damaged_requests(made, SEED, REQUESTS), REQUESTS, before)
