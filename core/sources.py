"""Sources and hooks: rows that others shaped, mapped to our events. Pure; used by `ingest`, `sources test`, `send`, the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from schemas.definitions import ALL_TENANTS, Hook, Source
from schemas.envelope import key as kafka_key

_AMOUNTS: Final[Mapping[str, type]] = dict.fromkeys(("amount", "score", "rating", "value"), float)
NUMBERS: Final[Mapping[str, Mapping[str, type]]] = {
    "events.usage": {},
    "events.performance": {"latency_ms": float, "status": int},
    "events.contacts": {"score": float, "position": int},
    **dict.fromkeys(("events.commerce", "events.engagement", "events.feedback", "events.market"), _AMOUNTS),
}
"""Fields of a topic that hold numbers; text is read as one."""
_NAMES: Final = frozenset(
    (
        "id",
        "tenant",
        "product",
        "user",
        "contact",
        "account",
        "feature",
        "service",
        "subject",
        "former",
        "order",
        "cart",
    )
)
"""Fields that hold names; a number is written as one."""
SPREAD: Final = "properties."
"""A field of this prefix goes into the event's `properties`."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """An event, and the key it travels under."""

    key: bytes
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unmapped:
    """Why a row is no event; `reason` is one word, for the counter, `detail` names the field."""

    reason: str
    detail: str


def map_row(source: Source, row: object, position: str) -> Mapped | Unmapped:
    """The event that `source` says a row is. `position` (`topic/partition/offset`) makes its id where the source says so."""
    if not isinstance(row, Mapping):
        return Unmapped("not_object", "the row is not one JSON object")
    event = picked(source, row)
    if isinstance(event, Unmapped):
        return event
    if source.id_from == "position":
        event.setdefault("id", position)
    performance = source.target == "events.performance"
    event.setdefault("type", "request.completed" if performance else "feature.used")
    try:
        event["occurred_at"] = moment(event.get("occurred_at"), source.time_unit)
    except ValueError as error:
        return Unmapped("invalid", f"occurred_at: {error}")
    about = event.get("service", event.get("feature")) if performance else event.get("user")
    if source.tenant != ALL_TENANTS and event.setdefault("tenant", source.tenant) != source.tenant:
        return Unmapped(
            "foreign_tenant", f"the source is tenant {source.tenant}'s and may not speak for {event['tenant']!r:.80}"
        )
    for name, value in (("id", event.get("id")), ("tenant", event.get("tenant")), ("product", event.get("product"))):
        if value is None or value == "":
            return Unmapped("missing", f"{name}: neither a field nor a constant gives it")
    if about is None or about == "":
        return Unmapped("missing", "service or feature" if performance else "user")
    return Mapped(kafka_key(str(event["tenant"]), str(about)), event)


def picked(source: Source | Hook, row: Mapping[str, Any]) -> dict[str, Any] | Unmapped:
    """The constants, and what the fields find in the row; a field that finds nothing is left out."""
    event: dict[str, Any] = dict(source.constants)
    properties: dict[str, Any] = {}
    for ours, theirs in source.fields.items():
        value = dig(row, theirs)
        if value is None:
            continue
        if ours.startswith(SPREAD):
            properties[ours.removeprefix(SPREAD)] = value
            continue
        try:
            event[ours] = _typed(source.target, ours, value)
        except (TypeError, ValueError):
            return Unmapped("invalid", f"{ours}: {theirs}={value!r:.80} is no number")
    if properties:
        event["properties"] = {**event.get("properties", {}), **properties}
    return event


def called(hook: Hook, row: object, ident: str, now: int) -> dict[str, Any] | Unmapped:
    """The event that a call's body is. `ident` and `now` (ms) stand in for an id and a time that the body does not give."""
    if not isinstance(row, Mapping):
        return Unmapped("not_object", "the body is not one JSON object")
    event = picked(hook, row)
    if isinstance(event, Unmapped):
        return event
    event.setdefault("id", ident)
    if hook.target in ("events.usage", "events.performance"):
        event.setdefault("type", "feature.used" if hook.target == "events.usage" else "request.completed")
    try:
        event["occurred_at"] = moment(event["occurred_at"], hook.time_unit) if "occurred_at" in event else now
    except ValueError as error:
        return Unmapped("invalid", f"occurred_at: {error}")
    return event


def dig(row: Mapping[str, Any], path: str) -> Any:
    """The value at `a.b`; a key that itself holds a dot wins. None where there is none."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def moment(value: object, unit: str) -> int:
    """Milliseconds since the epoch. Raises `ValueError` that says what was found; a time without a zone is refused."""
    if value is None or isinstance(value, bool):
        raise ValueError("missing")
    if unit != "rfc3339":
        try:
            number = float(str(value))
        except ValueError:
            raise ValueError(f"{value!r:.80} is no number of {unit}") from None
        return round(number * (1000 if unit == "s" else 1))
    if isinstance(value, datetime):
        parsed = value
    else:
        try:
            parsed = datetime.fromisoformat(str(value))
        except ValueError:
            raise ValueError(f"{value!r:.80} is no RFC 3339 time (time_unit may be ms or s)") from None
    if parsed.tzinfo is None:
        raise ValueError(f"{value!r:.80} names no time zone")
    since = parsed.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _typed(target: str, name: str, value: Any) -> Any:
    number = NUMBERS.get(target, {}).get(name)
    if number is not None:
        return number(float(value)) if isinstance(value, str) else value
    if name in _NAMES:
        return str(value)
    return value
