"""What happens to a subject, as a desk is told of it, and what each job came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.workflows.jobs import Record
from schemas.commands import Command


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
