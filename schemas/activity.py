"""Activity: one line of what a rule or a workflow did about a subject, as the read model keeps it and the API shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from schemas.envelope import Millis, Word

What = Literal[
    "commanded", "suppressed", "failed", "delivered", "retrying", "rejected",
    "began", "entered", "waits", "chose", "exposed", "ordered", "undid", "event", "late", "person", "answered", "retried",
    "skipped",
    "joined", "ended", "other",
]  # fmt: skip
"""Of a firing: what became of it. Of a run: what its history notes; `other`: a note of a newer version."""


class Activity(Word):
    """Something that a rule or a workflow did, or why it did not."""

    id: str
    tenant: str
    product: str | None
    """Null where it is not known: later lines of a run."""
    rule: str
    """The rule's id; of what a run noted the workflow's name."""
    subject: str
    at: Millis
    """Event time judged; of an attempt at delivery, and of what was suppressed after the decision, the time it happened."""
    what: What
    reason: str | None = None
    """Why not; of a command, why; of a run that ended, how."""
    command: str | None = None
    """Id of the command, or that it would have had."""
    run: str | None = None
    """Id of the run."""
    step: str | None = None
    """Where in the run."""
    detail: dict[str, JsonValue] = Field(default_factory=dict)
    """Numbers, limits and window of a decision; what a run noted."""
