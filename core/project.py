"""Projection: records of the public topics → rows of the read model. Pure; `app.store` writes them.

Every row has a key and, where rows of one key follow each other, a version: of two rows with one key the higher version
stays, so writing a batch twice, or two batches in either order, ends in the same tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson
from pydantic import ValidationError

from core.batch import Batch, Headers
from core.effects import Count, DeadLetter, Effect
from schemas.commands import DOMAINS, Command
from schemas.definitions import ApiKey, Definition
from schemas.delivery import Receipt, SinkRecord
from schemas.detections import DETECTION
from schemas.envelope import TENANT_PATTERN
from schemas.tables import AdoptionRow, HealthRow

Value = str | int | float | bool | None
Row = dict[str, Value]

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "adoption": ("tenant", "product", "feature", "window", "slot"),
    "features": ("tenant", "product", "feature"),
    "products": ("tenant", "product"),
    "health": ("tenant", "product", "at"),
    "detections": ("id",),
    "commands": ("id",),
    "receipts": ("id",),
    "deliveries": ("id",),
    "sink": ("delivery",),
    "dead_letters": ("id",),
    "definitions": ("tenant", "kind", "name"),
}
"""Table → its key columns."""

VERSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "adoption": ("window_end", "version"),
    "health": ("version",),
    "deliveries": ("version",),
    "definitions": ("version",),
}
"""Table → the columns that say which of two rows with one key stays; a table without any keeps the first."""

KEEP_MS: Final[Mapping[str, int]] = {
    "5m": 300_000,
    "1h": 60_000,
    "1d": 3_600_000,
    "7d": 86_400_000,
    "28d": 86_400_000,
}
"""The grid on which closed adoption rows stay: within one slot the newest window end replaces the others."""

TOPICS: Final[tuple[str, ...]] = (
    "tables.adoption",
    "tables.health",
    "detections",
    *(f"commands.{domain}" for domain in DOMAINS),
    "receipts",
    "sink",
    "dead-letters",
)
"""What is projected, topic by topic (`definitions` has one partition and comes by its own reader)."""

TEXT_LIMIT = 512
"""Longest text in a column of its own; bodies are whole."""
SHOWN_BYTES = 16_384
"""How much of a dead letter's value is kept for reading; the topic has all of it."""
_INT64 = 1 << 63
_TENANT = re.compile(TENANT_PATTERN)


@dataclass(slots=True)
class Projection:
    """What one batch comes to: rows by table, one a key, and what is to be counted or set aside."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)


def slot(window: str, end: int) -> int:
    """`end` rounded up to the grid on which rows of `window` are kept."""
    keep = KEEP_MS[window]
    return -(-end // keep) * keep


def project(batch: Batch) -> Projection:
    """The rows of one batch. A record that is not the word its topic carries becomes a dead letter, counted."""
    take = _READERS["commands" if batch.topic.startswith("commands.") else batch.topic]
    newest: dict[str, dict[tuple[Value, ...], Row]] = {}
    effects: list[Effect] = []
    for i, value in enumerate(batch.values):
        if value is None and batch.topic != "dead-letters":
            continue  # a tombstone of retention; history stays in the read model until it is pruned there
        at = int(batch.timestamps[i])
        key = batch.rows.key(i) if batch.topic == "dead-letters" or value is None else None
        headers = batch.headed.get(i, ())
        try:
            made = take(value, at, key, headers)
            for _, row in made:
                _storable(row)
        except (ValidationError, ValueError) as error:
            effects.append(_set_aside(batch, i, at, headers, str(error)))
            continue
        for table, row in made:
            _keep(newest.setdefault(table, {}), table, row)
    rows = {table: list(by_key.values()) for table, by_key in newest.items()}
    effects += [Count("uptake_project_rows_total", len(r), (table,)) for table, r in rows.items()]
    return Projection(rows, effects)


def definition_rows(definitions: list[Definition]) -> list[Row]:
    """Rows of the `definitions` table; API keys are left out, hashed or not."""
    return [
        {"tenant": d.tenant, "kind": d.kind, "name": d.name, "version": d.version, "body": d.model_dump_json()}
        for d in definitions
        if not isinstance(d, ApiKey)
    ]


def _keep(by_key: dict[tuple[Value, ...], Row], table: str, row: Row) -> None:
    key = tuple(row[c] for c in KEYS[table])
    old = by_key.get(key)
    versions = VERSIONS.get(table, ())
    if old is None or (versions and _version(row, versions) > _version(old, versions)):
        by_key[key] = row


def _version(row: Row, columns: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(int(row[c] or 0) for c in columns)


def _storable(row: Row) -> None:
    """Make the row fit both databases: no NUL in text, no text that an index refuses; numbers beyond 64 bits are errors."""
    for column, value in row.items():
        if isinstance(value, str):
            if "\x00" in value:
                value = value.replace("\x00", "\ufffd")
            if column not in ("body", "value") and len(value) > TEXT_LIMIT:
                value = value[:TEXT_LIMIT]
            row[column] = value
        elif isinstance(value, int) and not -_INT64 <= value < _INT64:
            raise ValueError(f"{column}: {value} does not fit into 64 bits")


def _set_aside(batch: Batch, i: int, at: int, headers: Headers, detail: str) -> DeadLetter:
    return DeadLetter(
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[i]),
        step="project",
        reason="invalid",
        detail=detail[:1000],
        key=batch.rows.key(i),
        value=batch.values[i],
        at=at,
        headers=headers,
    )


# --- one reader a topic -------------------------------------------------------------------------------------------------

_Made = list[tuple[str, Row]]
_Reader = Callable[[bytes | None, int, bytes | None, Headers], _Made]


def _text(value: bytes | None) -> str:
    """The record as text, for a `body` column; whoever reads it gets the word as it was written."""
    return (value or b"").decode()


def _adoption(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> _Made:
    row = AdoptionRow.model_validate_json(value or b"")
    columns: Row = {**row.model_dump(), "slot": slot(row.window, row.window_end)}
    return [("adoption", columns), *_seen(row.tenant, row.product, row.feature)]


def _health(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> _Made:
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


def _detection(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> _Made:
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


def _command(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> _Made:
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
    return [("commands", columns), *_seen(command.tenant, command.product)]


def _receipt(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> _Made:
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
    made: _Made = [("receipts", {**shared, "id": receipt.id, "delivery": receipt.delivery, "body": body})]
    if receipt.delivery is not None:
        version = receipt.attempt * 2 + receipt.final
        made.append(("deliveries", {**shared, "id": receipt.delivery, "version": version, "body": body}))
    return made


def _sink(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> _Made:
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


def _dead_letter(value: bytes | None, at: int, key: bytes | None, headers: Headers) -> _Made:
    told = {name: text.decode(errors="replace") for name, text in headers if name.startswith("uptake-")}
    topic, step = told.get("uptake-topic", ""), told.get("uptake-step", "")
    partition, offset = _number(told.get("uptake-partition"), -1), _number(told.get("uptake-offset"), -1)
    replays = _number(told.get("uptake-replays"), 0)
    columns: Row = {
        "id": dead_letter_id(topic, partition, offset, step, replays),
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "step": step,
        "replays": replays,
        "reason": told.get("uptake-reason", "unknown"),
        "detail": told.get("uptake-detail", ""),
        "group": told.get("uptake-group", ""),
        "at": _number(told.get("uptake-at"), at),
        "tenant": _tenant_of(key),
        "event": event_id(value),
        "key": None if key is None else key.decode(errors="replace"),
        "bytes": None if value is None else len(value),
        "value": None if value is None else value[:SHOWN_BYTES].decode(errors="replace"),
    }
    return [("dead_letters", columns)]


def _seen(tenant: str, product: str, feature: str | None = None) -> _Made:
    made: _Made = [("products", {"tenant": tenant, "product": product})]
    if feature is not None:
        made.append(("features", {"tenant": tenant, "product": product, "feature": feature}))
    return made


def _number(text: str | None, default: int) -> int:
    try:
        return default if text is None else int(text)
    except ValueError:
        return default


def _tenant_of(key: bytes | None) -> str | None:
    """The tenant that a dead letter's key names; None where it names none (only keys of all tenants see those)."""
    name, bar, _ = (key or b"").partition(b"|")
    text = name.decode(errors="replace")
    return text if bar and _TENANT.fullmatch(text) else None


def dead_letter_id(topic: str, partition: int, offset: int, step: str, replays: int) -> str:
    """What names a dead letter: where the row stood, who refused it, and after how many replays."""
    return f"{topic}:{partition}:{offset}:{step}:{replays}"


def event_id(value: bytes | None) -> str | None:
    """The `id` of a JSON event; None where the bytes are no such thing."""
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    found = body.get("id") if isinstance(body, dict) else None
    return found if isinstance(found, str) else None


_READERS: Final[Mapping[str, _Reader]] = {
    "tables.adoption": _adoption,
    "tables.health": _health,
    "detections": _detection,
    "commands": _command,
    "receipts": _receipt,
    "sink": _sink,
    "dead-letters": _dead_letter,
}
