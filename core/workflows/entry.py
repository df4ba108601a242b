"""Whether a trigger begins a run: the workflow's re-entry policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.workflows.run import Run
from schemas.definitions import Workflow


@dataclass(frozen=True, slots=True)
class Enter:
    """Begin. Of the runs that go on, `replaced` are cancelled first."""

    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Begin nothing."""

    reason: str
    """running · entered_before · too_soon."""


def admit(workflow: Workflow, going_on: Sequence[Run], last: int | None, at: int) -> Enter | Refused:
    """What a trigger at `at` does. `going_on`: runs of the same workflow, subject and key; `last`: the newest entry of theirs."""
    if workflow.reentry == "once" and last is not None:
        return Refused("entered_before")
    if last is not None and at < last + workflow.reentry_after * 1000:
        return Refused("too_soon")
    if not going_on or workflow.reentry == "parallel":
        return Enter()
    if workflow.reentry == "restart":
        return Enter(tuple(run.id for run in going_on))
    return Refused("running")
