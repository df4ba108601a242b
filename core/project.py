"""Projection: records of the public topics → rows of the read model. Pure; `app.store` writes them.

Every row has a key and, where rows of one key follow each other, a version: of two rows with one key the higher version
stays, so writing a batch twice, or two batches in either order, ends in the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from core.batch import Batch, Headers
from core.effects import Count, DeadLetter, Effect
from core.forgetting import Forgetting
from core.public import READERS, Row, Value
from schemas.commands import DOMAINS
from schemas.definitions import ApiKey, Definition, Forgotten

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "adoption": ("tenant", "product", "feature", "window", "slot"),
    "features": ("tenant", "product", "feature"),
    "products": ("tenant", "product"),
    "health": ("tenant", "product", "at"),
    "outcomes": ("tenant", "product", "rule"),
    "detections": ("id",),
    "commands": ("id",),
    "receipts": ("id",),
    "runs": ("id",),
    "run_records": ("run", "seq"),
    "activity": ("id",),
    "deliveries": ("id",),
    "sink": ("delivery",),
    "dead_letters": ("id",),
    "definitions": ("tenant", "kind", "name"),
}
"""Table → its key columns."""

VERSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "adoption": ("window_end", "version"),
    "health": ("version",),
    "outcomes": ("version",),
    "deliveries": ("version",),
    "runs": ("seq",),
    "definitions": ("version",),
}
"""Table → the columns that say which of two rows with one key stays; a table without any keeps the first."""

TOPICS: Final[tuple[str, ...]] = (
    "tables.adoption",
    "tables.health",
    "outcomes",
    "detections",
    *(f"commands.{domain}" for domain in DOMAINS),
    "receipts",
    "runs",
    "sink",
    "dead-letters",
)
"""What is projected, topic by topic (`definitions` has one partition and comes by its own reader)."""

TEXT_LIMIT = 512
"""Longest text in a column of its own; bodies are whole."""
_INT64 = 1 << 63


@dataclass(slots=True)
class Projection:
    """What one batch comes to: rows by table, one a key, and what is to be counted or set aside."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)


def project(batch: Batch, forgotten: Forgetting | None = None) -> Projection:
    """The rows of one batch. A record that is not the word its topic carries becomes a dead letter, counted; one about a
    subject to be forgotten becomes nothing, counted.
    """
    gone = 0
    take = READERS["commands" if batch.topic.startswith("commands.") else batch.topic]
    newest: dict[str, dict[tuple[Value, ...], Row]] = {}
    effects: list[Effect] = []
    for i, value in enumerate(batch.values):
        if value is None and batch.topic != "dead-letters":
            continue  # a tombstone of retention; history stays in the read model until it is pruned there
        at = int(batch.timestamps[i])
        key = batch.rows.key(i) if batch.topic == "dead-letters" or value is None else None
        headers = batch.headed.get(i, ())
        if forgotten is not None and forgotten.version and _about(forgotten, batch, i, key):
            gone += 1
            continue
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
    if gone:
        effects.append(Count("uptake_forgotten_total", gone, ("project",)))
    return Projection(rows, effects)


def _about(forgotten: Forgetting, batch: Batch, i: int, key: bytes | None) -> bool:
    return not batch.topic.startswith("tables.") and forgotten.concerns(key, batch.values[i])


def definition_rows(definitions: list[Definition]) -> list[Row]:
    """Rows of the `definitions` table; API keys are left out, hashed or not, and so are hashes of the forgotten."""
    return [
        {"tenant": d.tenant, "kind": d.kind, "name": d.name, "version": d.version, "body": d.model_dump_json()}
        for d in definitions
        if not isinstance(d, ApiKey | Forgotten)
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
            if column not in ("body", "value", "places", "nodes") and len(value) > TEXT_LIMIT:
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
