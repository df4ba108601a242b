"""Deliveries, what became of them, and dead letters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from schemas.commands import Command, Why
from schemas.envelope import Millis, Tenant, Word


class Delivery(Word):
    """A command bound to a connection. Topic `deliveries.<integration>` (`….urgent`), key `tenant|connection`."""

    id: str
    """uuid5 of command id and connection; `webhook-id` and every other idempotency key come from it."""
    tenant: Tenant
    connection: str
    integration: str
    sandboxed: bool
    """True: goes to the built-in sink, whatever the connection says."""
    command: Command


class Delivered(Word):
    """The destination took it."""

    outcome: Literal["delivered"] = "delivered"
    remote_id: str | None = None


class Retry(Word):
    """Not now."""

    outcome: Literal["retry"] = "retry"
    reason: str
    after_s: float | None = None
    """What the destination asked for (`Retry-After`)."""


class Rejected(Word):
    """Never: trying again would not help."""

    outcome: Literal["rejected"] = "rejected"
    reason: str


Outcome = Annotated[Delivered | Retry | Rejected, Field(discriminator="outcome")]

SuppressionReason = Literal[
    "paused",
    "expired",
    "duplicate",
    "cooldown",
    "ceiling",
    "silence",
    "stale",
    "no_connection",
    "backfill",
    "hold_out",
    "shadow",
]


class Receipt(Word):
    """What one attempt came to, or that the whole ended. Topic `receipts`, keyed as the command."""

    id: str
    delivery: str | None
    command: str
    command_type: str
    tenant: Tenant
    product: str
    subject: str
    rule: str
    connection: str | None
    integration: str | None
    sandboxed: bool
    attempt: int
    """1 for the first; 0 where nothing was tried (suppressed, failed)."""
    status: Literal["delivered", "retrying", "rejected", "suppressed", "failed"]
    """`failed`: a match of which no command could be made."""
    final: bool
    reason: str | None = None
    remote_id: str | None = None
    at: Millis
    issued_at: Millis | None = None
    """Event time at which the command was decided; given where it was delivered."""
    took_ms: float | None = None
    retry_at: Millis | None = None
    traceparent: str | None = None
    judged_at: Millis | None = None
    """Event time judged, where DECIDE made no command of a match."""
    why: Why | None = None
    """What it had matched, then."""
    detail: str | None = None
    """Of what failed: what is wrong, and where."""
    shadowed: Command | None = None
    """What would have been sent, were the rule or workflow not in `mode: shadow`."""


class DeadLetter(Word):
    """A dead letter as the API and the read model show it; on the topic it is the original bytes and these as headers."""

    step: str
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    group: str
    replays: int
    at: Millis
    key: str | None
    value: str | None
    """UTF-8 with replacement, for reading only."""


DEAD_LETTER_HEADERS = (
    "uptake-step",
    "uptake-reason",
    "uptake-detail",
    "uptake-topic",
    "uptake-partition",
    "uptake-offset",
    "uptake-group",
    "uptake-replays",
    "uptake-at",
)
REPLAYS_HEADER = "uptake-replays"
"""On a row that was sent again: how often. A row that dies keeps it, so a record's replays can be bounded."""
CUT_HEADER = "uptake-cut"
"""Only on letters whose value was too large to be kept whole: the bytes it had."""
CHECKPOINT_HEADER = "uptake-checkpoint"
"""On every record that a checkpoint wrote, last: `role|group|partition|number`. A backup drops by it what was written behind the
state it holds."""


class Redrive(Word):
    """A dead letter that was sent again: topic `redrives`, in one transaction with the row. Who did it, and to what."""

    id: str
    """uuid5 of the letter's place: a letter is sent again once."""
    run: str
    """The same for all that one call sent."""
    by: str
    at: Millis
    tenant: Tenant | None
    """The letter's, where it can be known."""
    letter_partition: int
    letter_offset: int
    """Where the letter stands in `dead-letters`; offset -1: it was gone when a backup was restored."""
    step: str
    reason: str
    topic: str
    partition: int
    offset: int
    """Where the row stood when it died."""
    replays: int
    """How often its record has been sent again, this time included."""


class SinkRecord(Word):
    """What the built-in sink keeps of a delivery: topic `sink`."""

    delivery: str
    connection: str
    integration: str
    sandboxed: bool
    command: Command
    rendered: dict[str, JsonValue] | None = None
