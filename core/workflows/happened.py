"""What happens to a subject, as a desk is told of it, and what each job came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from core.workflows.jobs import Job, Note, Record
from core.workflows.run import Run
from schemas.commands import Command
from schemas.registers import Signal

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Came:
    """What one job came to."""

    record: Record
    commands: list[Command]
    failed: int
    """Commands that could not be rendered."""
    shadow: bool = False
    """The run's version is in `mode: shadow`: the commands are recorded and not given."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something of which runs are made: an event, or a finding (then `topic` is `detections` and `name` says which)."""

    tenant: str
    product: str
    subject: str
    cause: str
    at: int
    topic: str
    data: dict[str, Any]
    name: str = ""
    act: bool = True
    """False: it is told to runs that go on, and begins none."""
    traceparent: str | None = None
    past: bool = False
    """It was told a day or more after it happened: the runs that it begins live in the past (`Run.past`)."""


def record_of(run: Run, job: Job, notes: list[Note], commands: list[Command], now: int) -> Record:
    """The job in the run's history."""
    return Record(
        run=run.id,
        tenant=run.tenant,
        subject=run.subject,
        workflow=run.workflow,
        versions=run.pins,
        seq=run.jobs,
        now=now,
        job=job,
        notes=notes,
        commands=[c.id for c in commands],
        status=run.status,
        outcome=run.outcome,
        product=run.product,
        began=run.began,
        places=run.places,
        paused=run.paused is not None,
        shared=run.shared,
        names=run.names,
    )


def occurrence_of(signal: Signal, topic: str, now: int, name: str = "") -> Occurrence:
    """What a signal tells. `topic`, `name`: as in the occurrence; `now`: when it was told."""
    about = {"tenant": signal.tenant, "product": signal.product, "subject": signal.subject}
    return Occurrence(
        tenant=signal.tenant,
        product=signal.product,
        subject=signal.subject,
        cause=signal.cause,
        at=signal.at,
        topic=topic,
        data={**signal.data, **about},
        name=name,
        act=signal.act,
        traceparent=signal.traceparent,
        past=signal.at < now - DAY_MS,
    )
