"""Activity of rules and runs, out of the records that tell of it: commands, receipts, histories of runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

import msgspec

from core.workflows.jobs import Record, Start
from schemas.activity import Activity, What
from schemas.commands import Command, Why
from schemas.delivery import Receipt

_WHATS: Final = frozenset(get_args(What))
_record = msgspec.json.Decoder(Record).decode


def of_command(command: Command) -> Activity:
    """The firing: when, and because of what."""
    return Activity(
        id=f"command:{command.id}",
        tenant=command.tenant,
        product=command.product,
        rule=command.rule,
        subject=command.subject,
        at=command.issued_at,
        what="commanded",
        reason=command.why.reason,
        command=command.id,
        step=command.step,
        detail={
            "type": command.type,
            "rule_version": command.rule_version,
            "title": command.title,
            **_why(command.why),
        },
    )


def of_receipt(receipt: Receipt) -> Activity:
    """What became of a firing: held back and why, or an attempt to deliver its command."""
    why = receipt.why
    detail: dict[str, Any] = {"type": receipt.command_type}
    if receipt.connection is not None:
        detail |= {"connection": receipt.connection, "attempt": receipt.attempt, "sandboxed": receipt.sandboxed}
    if receipt.detail is not None:
        detail["detail"] = receipt.detail
    if why is not None:
        detail |= {"because": why.reason, "rule_version": why.rule_version, **_why(why)}
    return Activity(
        id=f"receipt:{receipt.id}",
        tenant=receipt.tenant,
        product=receipt.product,
        rule=receipt.rule,
        subject=receipt.subject,
        at=receipt.at if receipt.judged_at is None else receipt.judged_at,
        what=receipt.status,
        reason=receipt.reason,
        command=receipt.command,
        detail=detail,
    )


def of_record(value: bytes) -> Iterator[Activity]:
    """A run's lines of one record of its history. Raises `ValueError` where it is none."""
    try:
        record = _record(value)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    for i, note in enumerate(record.notes):
        reason = note.detail.get("status" if note.what == "ended" else "reason")
        yield Activity(
            id=f"run:{record.run}:{record.seq:06}:{i:04}",
            tenant=record.tenant,
            product=record.job.product if isinstance(record.job, Start) else None,
            rule=record.workflow,
            subject=record.subject,
            at=note.at,
            what=note.what if note.what in _WHATS else "other",
            reason=reason if isinstance(reason, str) else None,
            run=record.run,
            step=note.step or None,
            detail=note.detail if note.what in _WHATS else {"what": note.what, **note.detail},
        )


def _why(why: Why) -> dict[str, Any]:
    told = {"numbers": why.numbers, "thresholds": why.thresholds, "detection": why.detection, "window": why.window}
    told |= {"window_start": why.window_start, "window_end": why.window_end}
    return {name: value for name, value in told.items() if value not in (None, {})}
