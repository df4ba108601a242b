"""The shipped workflows: which rows of the catalogue they are, what their journeys show, what they ask of METER."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.rulebook import Trip, load_rulebook, trips
from core.rules.columns import required
from core.workflows.testing import travel
from core.workflows.waits import waits_of
from schemas.definitions import OnPrediction, Prediction, Workflow
from schemas.workflows import Act, Approve, Await, Call

ROOT = Path(__file__).parents[2] / "rulebook"
TEXTS = {str(p.relative_to(ROOT)): p.read_text() for p in sorted(ROOT.rglob("*.yaml"))}
WORKFLOWS = {d.id: d for d in load_rulebook(TEXTS) if isinstance(d, Workflow)}
TRIPS = trips(TEXTS)
JOURNEYS = [*(f"J{n}" for n in range(1, 14)), "P3", "P4"]
INTERVENTIONS = ["intervention-adoption", "intervention-engagement", "intervention-health", "intervention-milestone"]
FORESEEN = ["J12.foreseen", "J13.foreseen"]
"""Begun by our own predictions; their nodes are J12's and J13's."""
SHIPPED = [*JOURNEYS, *INTERVENTIONS, *FORESEEN]
STEPS = {"J1": 16, "J2": 12, "J3": 12}
"""Templates whose steps are rows of the catalogue by themselves."""


def test_rows_of_the_catalogue() -> None:
    assert sorted(WORKFLOWS) == sorted(SHIPPED)


def test_a_workflow_of_more_than_fifty_steps_is_shipped() -> None:
    assert sum(isinstance(n, Act) for n in WORKFLOWS["P4"].nodes) > 50
    assert {"branch", "split", "loop"} <= {n.kind for n in WORKFLOWS["P4"].nodes}


@pytest.mark.parametrize(("id_", "count"), STEPS.items())
def test_each_step_of_the_catalogue_is_a_node_that_orders(id_: str, count: int) -> None:
    ordering = [n for n in WORKFLOWS[id_].nodes if isinstance(n, Act)]
    named = [n.id for n in ordering if n.id.startswith(f"{id_}.")]
    assert named == [f"{id_}.{k}" for k in range(1, count + 1)]
    payloads = {n.id: n.command.payload for n in ordering}
    assert all(len(payloads[name]) >= 2 for name in named), "somebody can act on it"


@pytest.mark.parametrize("trip", TRIPS, ids=[f"{t.workflow.id} {t.journey.name}" for t in TRIPS])
def test_journeys(trip: Trip) -> None:
    travel(trip.workflow, trip.others, trip.journey)


@pytest.mark.parametrize("id_", SHIPPED)
def test_every_step_that_orders_is_taken_in_some_journey_and_one_of_them_stays_short(id_: str) -> None:
    workflow = WORKFLOWS[id_]
    taken, counts = set(), []
    for trip in TRIPS:
        if trip.workflow.id == id_:
            records = travel(trip.workflow, trip.others, trip.journey)
            taken |= {n.step.rsplit("/", 1)[-1] for r in records for n in r.notes if n.what == "entered"}
            counts.append(sum(len(r.commands) for r in records))
    assert {n.id for n in workflow.nodes if isinstance(n, (Act, Approve))} <= taken
    assert min(counts) < max(counts), "a journey in which less is ordered"


@pytest.mark.parametrize("id_", SHIPPED)
def test_meter_can_look_its_rows_up_and_they_are_rare(id_: str) -> None:
    for wait in waits_of(WORKFLOWS[id_]):
        (types,) = (required(wait.where)["type"],)
        assert "feature.used" not in types and "request.completed" not in types


@pytest.mark.parametrize(("id_", "model"), [("J12.foreseen", "inactivity"), ("J13.foreseen", "conversion")])
def test_the_catalogues_predictions_begin_what_the_catalogue_says(id_: str, model: str) -> None:
    trigger = WORKFLOWS[id_].trigger
    assert isinstance(trigger, OnPrediction) and trigger.edge == "crossed"
    (prediction,) = (d for d in load_rulebook(TEXTS) if isinstance(d, Prediction) and d.name == trigger.prediction)
    assert (prediction.model, prediction.limit) == (model, 0.7)
    (call,) = WORKFLOWS[id_].nodes
    assert isinstance(call, Call) and call.workflow == WORKFLOWS[id_.partition(".")[0]].name


def test_every_row_of_the_intervention_matrix_is_a_step_of_its_level() -> None:
    """Level n of a ladder is a row Hn.x; the way up leads through the deadline, and at last out."""
    rows = []
    for id_ in INTERVENTIONS:
        nodes = {n.id: n for n in WORKFLOWS[id_].nodes}
        at, levels = WORKFLOWS[id_].start, []
        while at in nodes and at.startswith("H"):
            act, wait = nodes[at], nodes[f"{at}-deadline"]
            assert isinstance(act, Act) and isinstance(wait, Await) and act.next == wait.id
            assert act.command.payload["level"] == int(at[1]) and wait.events["better"] == "closed" and wait.timeout
            levels.append(int(at[1]))
            rows.append(at)
            at = str(wait.timed_out)
        assert levels == [1, 2, 3] and at == "unmoved"
    assert sorted(rows) == [f"H{level}.{n}" for level in (1, 2, 3) for n in (1, 2, 3, 4)]
