"""Receipts: what one attempt came to, or that the whole ended, as records of `receipts`."""

from __future__ import annotations

from core.batch import Headers
from core.effects import Emit
from schemas.commands import Command
from schemas.delivery import Delivery, Outcome, Receipt, SuppressionReason
from schemas.envelope import derived_id, key


def suppressed(command: Command, reason: SuppressionReason, origin: str, now: int, *, whole: bool = False) -> Emit:
    """The whole command came to nothing, for this reason. `origin` (topic/partition/offset) tells a repeat from the first.

    `whole`: the receipt carries the command itself, which stands nowhere else.
    """
    return _emit(
        command,
        Receipt(
            id=derived_id("receipt", origin, command.id, reason),
            delivery=None,
            command=command.id,
            command_type=command.type,
            tenant=command.tenant,
            product=command.product,
            subject=command.subject,
            rule=command.rule,
            connection=None,
            integration=None,
            sandboxed=False,
            attempt=0,
            status="suppressed",
            final=True,
            reason=reason,
            at=now,
            traceparent=command.traceparent,
            shadowed=command if whole else None,
        ),
    )


def attempted(
    delivery: Delivery,
    origin: str,
    attempt: int,
    outcome: Outcome,
    now: int,
    *,
    sandboxed: bool,
    reason: str | None = None,
    retry_at: int | None = None,
    took_ms: float | None = None,
) -> Emit:
    """What an attempt came to. A retry without `retry_at` is the last one: rejected."""
    status = outcome.outcome if outcome.outcome != "retry" else "rejected" if retry_at is None else "retrying"
    said = reason if reason is not None or outcome.outcome == "delivered" else outcome.reason
    remote = outcome.remote_id if outcome.outcome == "delivered" else None
    return _emit(
        delivery.command,
        _of(
            delivery,
            origin,
            attempt,
            status,
            now,
            sandboxed=sandboxed,
            reason=said,
            retry_at=retry_at,
            took_ms=took_ms,
            remote_id=remote,
        ),
    )


def expired(delivery: Delivery, origin: str, attempt: int, now: int, *, sandboxed: bool) -> Emit:
    """It waited until nobody should act on it any more."""
    return _emit(
        delivery.command, _of(delivery, origin, attempt, "suppressed", now, sandboxed=sandboxed, reason="expired")
    )


def trace_headers(command: Command) -> Headers:
    """`traceparent` as a Kafka header, where the command has one."""
    return () if command.traceparent is None else (("traceparent", command.traceparent.encode()),)


def _of(
    delivery: Delivery,
    origin: str,
    attempt: int,
    status: str,
    now: int,
    *,
    sandboxed: bool,
    reason: str | None = None,
    retry_at: int | None = None,
    took_ms: float | None = None,
    remote_id: str | None = None,
) -> Receipt:
    command = delivery.command
    return Receipt.model_validate(
        {
            "id": derived_id("receipt", origin, delivery.id, str(attempt), status),
            "delivery": delivery.id,
            "command": command.id,
            "command_type": command.type,
            "tenant": delivery.tenant,
            "product": command.product,
            "subject": command.subject,
            "rule": command.rule,
            "connection": delivery.connection,
            "integration": delivery.integration,
            "sandboxed": sandboxed,
            "attempt": attempt,
            "status": status,
            "final": status != "retrying",
            "reason": reason,
            "remote_id": remote_id,
            "at": now,
            "issued_at": command.issued_at if status == "delivered" else None,
            "took_ms": took_ms,
            "retry_at": retry_at,
            "traceparent": command.traceparent,
        }
    )


def _emit(command: Command, receipt: Receipt) -> Emit:
    return Emit(
        "receipts",
        key(command.tenant, command.subject),
        receipt.model_dump_json().encode(),
        headers=trace_headers(command),
    )
