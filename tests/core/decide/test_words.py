"""What signals tell runs of workflows is nothing to DECIDE: no command, no dead letter, no failure."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from core.batch import Batch
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Emit
from core.workflows.publishing import announcement
from schemas.definitions import Rule
from schemas.registers import Signal
from tests.core.workflows.build import COMMAND, T0, act, workflow


class _Rows:
    def key(self, row: int) -> bytes | None:
        return None


def a_word(kind: str) -> Signal:
    if kind == "publish":
        before = workflow(act("a"))
        after = workflow(act("b"), publish="follow").model_copy(update={"version": 2})
        found = announcement(before, after, T0, "ann")
        assert found is not None
        return found
    workflows = ["w"] if kind == "trigger" else []
    data: dict[str, object] = {"cart": "c"} if kind == "trigger" else {"run": "r", "by": "ann"}
    return Signal(
        tenant="acme",
        product="shop",
        subject="user:u",
        kind=kind,
        cause="c",
        rules=[],
        at=T0,
        data=data,
        workflows=workflows,
    )


@pytest.mark.parametrize("kind", ["publish", "pause", "resume", "move", "cancel", "approval", "trigger"])
def test_decide_passes_over_it(kind: str) -> None:
    catalogue = Catalogue()
    trigger = {"kind": "event", "topic": "events.usage"}
    catalogue.put(Rule.model_validate({"name": "r", "id": "r", "trigger": trigger, "command": COMMAND}))
    task = SignalsTask(0, 1, catalogue)
    value = msgspec.json.encode(a_word(kind))
    effects = list(task.step(Batch("signals", 0, [value], np.arange(1), np.full(1, T0), 1, _Rows())))
    assert not any(isinstance(e, (DeadLetter, Emit)) for e in effects)
    assert not any(isinstance(e, Count) and "failed" in e.metric for e in effects)
