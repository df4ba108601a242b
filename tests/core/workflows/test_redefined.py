"""A tenant defines a workflow whose name everybody's has: runs of everybody's go on in it, those that begin later in the tenant's."""

from __future__ import annotations

from typing import Any

import pytest

from core.workflows.graph import Library
from core.workflows.jobs import Record
from core.workflows.publishing import announcement, read_announcement
from core.workflows.replay import replay
from core.workflows.testing import histories
from schemas.definitions import Workflow
from tests.core.workflows.build import T0, H, S, Stage, act, workflow

DAY = 86_400


def waits(id_: str, to: str) -> dict[str, Any]:
    return {"kind": "wait", "id": id_, "until": {"kind": "span", "span": DAY}, "next": to}


OURS = workflow(waits("a-day", "b"), act("b"), reentry="parallel", version=1)
THEIRS = workflow(waits("a-day", "c"), act("c"), reentry="parallel", version=1, tenant="acme")
"""Of the same name and version."""


def records(stage: Stage) -> list[Record]:
    return [one.record for one in stage.came]


def library(*workflows: Workflow) -> Library:
    found = Library()
    for one in workflows:
        found.put(one)
    return found


@pytest.mark.parametrize("crash", [False, True])
def test_runs_of_everybodys_workflow_stay_in_it(crash: bool) -> None:
    stage = Stage(OURS)
    stage.event(T0)
    stage.catalogue.put(THEIRS)
    if crash:
        stage.crash()
    stage.event(T0 + H)
    stage.advance(T0 + DAY * S)
    if crash:
        stage.crash()
    stage.advance(T0 + 2 * DAY * S)
    assert stage.steps == [("b", DAY), ("c", DAY + 3_600)]
    assert sorted(replay(library(OURS, THEIRS), h) == [] for h in histories(records(stage)).values()) == [True, True]
    assert [r.shared for r in records(stage) if r.seq == 1] == [[""], []]


def test_the_tenants_own_runs_stay_in_its_own_after_it_takes_it_back() -> None:
    stage = Stage(OURS, THEIRS)
    stage.event(T0)
    stage.catalogue.apply(b"acme|workflow|w", None)
    stage.crash()
    stage.event(T0 + H)
    stage.advance(T0 + 2 * DAY * S)
    assert stage.steps == [("c", DAY), ("b", DAY + 3_600)]


def test_so_do_the_workflows_that_a_run_calls() -> None:
    never = {"kind": "event", "topic": "events.usage", "where": "type == 'never'"}
    sub: dict[str, Any] = {"name": "sub", "id": "sub", "trigger": never}
    called = workflow(act("b"), **sub)
    caller = workflow(waits("a-day", "call"), {"kind": "call", "id": "call", "workflow": "sub"})
    stage = Stage(caller, called)
    stage.event(T0)
    stage.catalogue.put(workflow(act("c"), **sub, tenant="acme"))
    stage.crash()
    stage.event(T0 + H, "elsewhere")
    stage.advance(T0 + 2 * DAY * S)
    assert stage.steps == [("call:0/b", DAY)]


def test_a_person_may_move_a_run_to_the_tenants_own() -> None:
    stage = Stage(OURS)
    stage.event(T0)
    stage.catalogue.put(THEIRS)
    run = stage.came[0].record.run
    stage.came += stage.desk.move(run, T0 + H, "ann", {}, T0 + H)
    assert [n.what for n in stage.came[-1].record.notes] == ["moved"]
    stage.crash()
    assert stage.desk.move(run, T0 + H, "ann", {}, T0 + H) == [], "it is there"
    stage.advance(T0 + DAY * S)
    assert stage.steps == [("c", DAY)]
    assert replay(library(OURS, THEIRS), records(stage)) == []


def test_what_everybodys_next_version_says_concerns_everybodys_runs_only() -> None:
    stage = Stage(OURS)
    stage.event(T0)
    stage.catalogue.put(THEIRS)
    stage.event(T0 + H)
    after = workflow(waits("a-day", "d"), act("d"), reentry="parallel", version=2, publish="follow")
    signal = announcement(OURS, after, T0 + 2 * H, "ann")
    assert signal is not None
    stage.desk.published(read_announcement(signal))
    stage.catalogue.put(after)
    stage.crash()
    stage.advance(T0 + 2 * DAY * S)
    assert stage.steps == [("d", DAY), ("c", DAY + 3_600)]
    assert all(replay(library(OURS, after, THEIRS), h) == [] for h in histories(records(stage)).values())


def test_a_run_of_before_does_not_say_whose_its_workflow_is_and_takes_the_tenants_first() -> None:
    stage = Stage(OURS)
    stage.event(T0)
    stage.crash(lambda row: [*row[:-1]] if isinstance(row, list) else row)
    stage.advance(T0 + 2 * DAY * S)
    assert stage.steps == [("b", DAY)]
