"""Ways for a row to be wrong: every kind of bad input that a producer has been seen to send."""

from __future__ import annotations

import orjson

from schemas.topics import DAY_MS

WAYS = (
    "fine",
    "not_json",
    "truncated",
    "not_an_object",
    "null_value",
    "missing_id",
    "missing_time",
    "missing_product",
    "missing_user",
    "numeric_tenant",
    "text_latency",
    "text_time",
    "time_without_zone",
    "empty_tenant",
    "upper_tenant",
    "far_ahead",
    "bad_cloudevent",
    "ancient",
    "wrong_key",
    "huge",
)
"""Names of the ways; a row's `spoilt` is the index. `ancient` and `wrong_key` rows are sound and are counted as such."""

NUMBER = {name: i for i, name in enumerate(WAYS)}
FAR_AHEAD_MS = 32_472_144_000_000
"""A time in the year 2999."""
ANCIENT_MS = 40 * DAY_MS
"""How much older than the others an ancient row is: older than the panes that are kept."""
HUGE = "x" * (1 << 20)

Headers = list[tuple[str, bytes]]


def spoil(way: str, value: bytes, key: bytes) -> tuple[bytes | None, bytes | None, Headers]:
    """A sound row's bytes and key made wrong in this way: (value, key, headers)."""
    match way:
        case "not_json":
            return b"<event/>", key, []
        case "truncated":
            return value[: len(value) * 2 // 3], key, []
        case "not_an_object":
            return b"[" + value + b"]", key, []
        case "null_value":
            return None, key, []
        case "wrong_key":
            return value, key + b"-elsewhere", []
        case "bad_cloudevent":
            return value, key, [("ce_specversion", b"1.0"), ("ce_id", b"only-an-id")]
        case _:
            row = orjson.loads(value)
            _change(row, way)
            return orjson.dumps(row), key, []


def _change(row: dict[str, object], way: str) -> None:
    changes: dict[str, tuple[str, object]] = {
        "numeric_tenant": ("tenant", 7),
        "text_time": ("occurred_at", "yesterday"),
        "time_without_zone": ("occurred_at", "2025-03-03T12:00:00"),
        "empty_tenant": ("tenant", ""),
        "upper_tenant": ("tenant", "ACME|1"),
        "far_ahead": ("occurred_at", FAR_AHEAD_MS),
        "huge": ("properties", {"blob": HUGE}),
    }
    missing = {"missing_id": "id", "missing_time": "occurred_at", "missing_product": "product"}
    if way in changes:
        field, value = changes[way]
        row[field] = value
    elif way in missing:
        del row[missing[way]]
    elif way == "missing_user":
        # A request needs a latency where a use needs a user.
        row.pop("user", None)
        row.pop("latency_ms", None)
    elif way == "text_latency":
        # … and of a use, the user becomes a number.
        row.update({"latency_ms": "fast"} if "latency_ms" in row else {"user": 7})
    elif way != "ancient":
        raise ValueError(f"no such way to spoil a row: {way}")
