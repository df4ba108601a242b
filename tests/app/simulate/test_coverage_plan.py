"""The coverage simulation plants each state where it says, and nowhere in the twin: judged by the oracle."""

from __future__ import annotations

from app.simulate import coverage
from app.simulate.encode import Encoder
from tests.app.simulate.logs import judge

STATES = {
    "A1": ("stage_entered", "low"),
    "A2": ("stage_entered", "growth"),
    "A3": ("stage_entered", "market"),
    "A4": ("viral_entered", None),
    "B1": ("band_entered", "critical"),
    "B2": ("band_entered", "declining"),
    "B3": ("band_entered", "stable"),
    "B4": ("band_entered", "optimal"),
}


def test_every_state_is_entered_with_its_cause_and_not_without() -> None:
    plan = coverage.plan()
    encoder = Encoder(plan)
    judged, _ = judge(plan, (encoder.encode(c) for c in coverage.chunks(plan)))
    entered = {(f.tenant, f.product, f.kind, f.facts.get("stage", f.facts.get("band"))) for f in judged.found}
    for case in coverage.CASES:
        assert (case.tenant, case.product, *STATES[case.state]) in entered, case
        assert (case.tenant, case.twin, *STATES[case.state]) not in entered, case
