"""Public words as rows of the read model: one reader a topic. Pure; `core.project` calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from core.activity import of_command, of_receipt
from core.activity import of_record as of_history
from core.batch import Headers
from core.decide.slots import slot
from core.letters import read_letter
from core.runrows import of_record
from schemas.activity import Activity
from schemas.commands import Command
from schemas.delivery import Receipt, SinkRecord
from schemas.detections import DETECTION
from schemas.outcomes import OutcomeRow
from schemas.tables import AdoptionRow, HealthRow

Value = str | int | float | bool | None
Row = dict[str, Value]

SHOWN_BYTES = 16_384
"""How much of a dead letter's value is kept for reading; the topic has all of it."""

Made = list[tuple[str, Row]]
"""(table, row) pairs."""
Reader = Callable[[bytes | None, int, bytes | None, Headers], Made]
"""(value, broker time, key, headers) → rows. Raises `ValueError` where the value is not the word its topic carries."""


def _text(value: bytes | None) -> str:
    """The record as text, for a `body` column; whoever reads it gets the word as it was written."""
    return (value or b"").decode()


def _adoption(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    row = AdoptionRow.model_validate_json(value or b"")
    columns: Row = {**row.model_dump(), "slot": slot(row.window, row.window_end)}
    return [("adoption", columns), *_seen(row.tenant, row.product, row.feature)]


def _health(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    row = HealthRow.model_validate_json(value or b"")
    columns: Row = {
        "tenant": row.tenant,
        "product": row.product,
        "at": row.at,
        "score": row.score,
        "band": row.band,
        "version": row.version,
        "body": _text(value),
    }
    return [("health", columns), *_seen(row.tenant, row.product)]


def _outcome(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    row = OutcomeRow.model_validate_json(value or b"")
    columns: Row = {
        "tenant": row.tenant,
        "product": row.product,
        "rule": row.rule,
        "verdict": row.verdict,
        "at": row.at,
        "version": row.version,
        "body": _text(value),
    }
    return [("outcomes", columns), *_seen(row.tenant, row.product)]


def _detection(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    found = DETECTION.validate_json(value or b"")
    columns: Row = {
        "id": found.id,
        "tenant": found.tenant,
        "product": found.product,
        "subject": found.subject,
        "kind": found.kind,
        "at": found.at,
        "act": found.act,
        "recorded_at": at,
        "body": _text(value),
    }
    return [("detections", columns), *_seen(found.tenant, found.product)]


def _command(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    command = Command.model_validate_json(value or b"")
    columns: Row = {
        "id": command.id,
        "tenant": command.tenant,
        "product": command.product,
        "type": command.type,
        "domain": command.domain,
        "subject": command.subject,
        "rule": command.rule,
        "cause": command.cause,
        "detection": command.why.detection,
        "priority": command.priority,
        "issued_at": command.issued_at,
        "expires_at": command.expires_at,
        "recorded_at": at,
        "title": command.title,
        "body": _text(value),
    }
    return [("commands", columns), _active(of_command(command), at), *_seen(command.tenant, command.product)]


def _receipt(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    receipt = Receipt.model_validate_json(value or b"")
    shared: Row = {
        "command": receipt.command,
        "command_type": receipt.command_type,
        "tenant": receipt.tenant,
        "product": receipt.product,
        "subject": receipt.subject,
        "rule": receipt.rule,
        "connection": receipt.connection,
        "integration": receipt.integration,
        "sandboxed": receipt.sandboxed,
        "attempt": receipt.attempt,
        "status": receipt.status,
        "final": receipt.final,
        "reason": receipt.reason,
        "at": receipt.at,
    }
    body = _text(value)
    made: Made = [("receipts", {**shared, "id": receipt.id, "delivery": receipt.delivery, "body": body})]
    made.append(_active(of_receipt(receipt), at))
    if receipt.delivery is not None:
        version = receipt.attempt * 2 + receipt.final
        made.append(("deliveries", {**shared, "id": receipt.delivery, "version": version, "body": body}))
    return made


def _sink(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    record = SinkRecord.model_validate_json(value or b"")
    columns: Row = {
        "delivery": record.delivery,
        "tenant": record.command.tenant,
        "product": record.command.product,
        "connection": record.connection,
        "integration": record.integration,
        "sandboxed": record.sandboxed,
        "command": record.command.id,
        "recorded_at": at,
        "body": _text(value),
    }
    return [("sink", columns)]


def _dead_letter(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    letter = read_letter(key, value, headers, at)
    columns: Row = {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.origin_partition,
        "offset": letter.origin_offset,
        "step": letter.step,
        "replays": letter.replays,
        "reason": letter.reason,
        "detail": letter.detail,
        "group": letter.group,
        "at": letter.at,
        "tenant": letter.tenant,
        "event": letter.event,
        "key": None if key is None else key.decode(errors="replace"),
        "bytes": None if value is None else len(value),
        "value": None if value is None else value[:SHOWN_BYTES].decode(errors="replace"),
    }
    return [("dead_letters", columns)]


def _run(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> Made:
    return [*of_record(value or b"", at), *(_active(line, at) for line in of_history(value or b""))]


def _active(line: Activity, at: int) -> tuple[str, Row]:
    columns: Row = {
        "id": line.id,
        "tenant": line.tenant,
        "product": line.product,
        "rule": line.rule,
        "subject": line.subject,
        "at": line.at,
        "what": line.what,
        "reason": line.reason,
        "recorded_at": at,
        "body": line.model_dump_json(exclude_defaults=True),
    }
    return "activity", columns


def _seen(tenant: str, product: str, feature: str | None = None) -> Made:
    made: Made = [("products", {"tenant": tenant, "product": product})]
    if feature is not None:
        made.append(("features", {"tenant": tenant, "product": product, "feature": feature}))
    return made


READERS: Final[Mapping[str, Reader]] = {
    "tables.adoption": _adoption,
    "tables.health": _health,
    "outcomes": _outcome,
    "detections": _detection,
    "commands": _command,
    "receipts": _receipt,
    "runs": _run,
    "sink": _sink,
    "dead-letters": _dead_letter,
}
"""Topic → its reader; `commands` stands for every `commands.<domain>`."""
