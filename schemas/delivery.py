"""Deliveries, what became of them, and dead letters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from schemas.commands import Command
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
    "paused", "expired", "duplicate", "cooldown", "ceiling", "silence", "stale", "no_connection", "backfill", "hold_out"
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
    """1 for the first; 0 where nothing was tried (suppressed)."""
    status: Literal["delivered", "retrying", "rejected", "suppressed"]
    final: bool
    reason: str | None = None
    remote_id: str | None = None
    at: Millis
    took_ms: float | None = None
    retry_at: Millis | None = None
    traceparent: str | None = None


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


class SinkRecord(Word):
    """What the built-in sink keeps of a delivery: topic `sink`."""

    delivery: str
    connection: str
    integration: str
    sandboxed: bool
    command: Command
    rendered: dict[str, JsonValue] | None = None
