"""DISPATCH and DELIVER in the simulation: every command arrives, its attempts share one id, receipts and accounts add up, whatever
happened to the workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest

from core.delivery import deliver
from core.delivery.deliver import Attempt, DeliverTask
from core.delivery.dispatch import DispatchTask
from core.delivery.rows import Rows
from tests.sim.delivering import Delivering
from tests.sim.schedule import Schedule, of_seed
from tests.sim.world import run

SEEDS = 40


def plan(seed: int) -> Schedule:
    return replace(of_seed(seed), outside=False)


def test_deliver() -> None:
    """And the faults that matter to it did happen: attempts cut off by kills and freezes, retries, repeats, refusals."""
    wrong, seen, answers = {}, Counter[str](), Counter[int]()
    repeated = 0
    for seed in range(SEEDS):
        scenario = Delivering()
        outcome = run(plan(seed), scenario)
        if outcome.differences:
            wrong[seed] = outcome.differences
        seen.update(outcome.counts)
        seen.update({role: points.total() for role, points in outcome.by_role.items()})
        arrivals = scenario.destination.arrivals
        answers.update(arrival.status for arrival in arrivals)
        well = Counter(arrival.id for arrival in arrivals if arrival.status == 200)
        repeated += sum(count > 1 for count in well.values())
    assert wrong == {}
    assert seen["attempts cut off"] and seen["zombies"] and seen["deliver"]
    assert {200, 422, 429, 503} <= answers.keys()
    # At least once, under one id: some that were taken came again, since nobody lived to hear that they were.
    assert repeated


def _forgets_rows(self: Rows) -> list[Any]:
    """A delivery that waits is in memory alone."""
    self._dirty.clear()
    return []


def _forgets_ledger(self: DispatchTask) -> list[Any]:
    """The ids taken before are in memory alone."""
    self._dirty.clear()
    return []


_attempt = deliver.attempt_of


def _other_id(*arguments: Any) -> Attempt:
    """Each attempt under an id of its own."""
    attempt = _attempt(*arguments)
    if attempt.number > 1:
        object.__setattr__(attempt.delivery.command, "id", str(uuid4()))
    return attempt


_end = DeliverTask._end


def _ends_unsaid(self: DeliverTask, row: Any, how: str) -> None:
    """The end of one delivery in four is not written down."""
    _end(self, row, how)
    if row.offset % 4 == 3:
        self._rows._dirty.discard(row.id)


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (Rows, "drain", _forgets_rows),
        (DispatchTask, "drain", _forgets_ledger),
        (deliver, "attempt_of", _other_id),
        (DeliverTask, "_end", _ends_unsaid),
    ],
    ids=["rows-forgotten", "ledger-forgotten", "an-id-of-its-own", "end-forgotten"],
)
def test_what_is_wrong_is_found(owner: Any, name: str, wrong: Callable[..., Any]) -> None:
    with mock.patch.object(owner, name, wrong):
        assert any(run(plan(seed), Delivering()).differences for seed in range(SEEDS))
