"""Rows that others shaped become events, or say why not."""

from __future__ import annotations

from typing import Any

import pytest

from core.sources import Mapped, Unmapped, map_row
from schemas.definitions import Source

USAGE = Source(
    name="clicks",
    topic="their.clicks",
    target="events.usage",
    fields={"id": "uuid", "user": "who.id", "feature": "screen", "occurred_at": "ts", "properties.plan": "who.plan"},
    constants={"tenant": "acme", "product": "studio"},
)
ROW: dict[str, Any] = {
    "uuid": 17,
    "who": {"id": "u|1", "plan": "pro"},
    "screen": "board",
    "ts": "2026-01-01T00:00:00.5+01:00",
}


def test_a_usage_row_is_keyed_and_typed() -> None:
    result = map_row(USAGE, ROW, "their.clicks/0/1")
    assert isinstance(result, Mapped)
    assert result.key == b"acme|u|1"
    assert result.event == {
        "tenant": "acme",
        "product": "studio",
        "id": "17",
        "user": "u|1",
        "feature": "board",
        "occurred_at": 1_767_222_000_500,
        "properties": {"plan": "pro"},
        "type": "feature.used",
    }


def test_a_request_is_keyed_by_service_and_its_numbers_are_read() -> None:
    source = Source(
        name="access",
        topic="their.access",
        target="events.performance",
        fields={"service": "svc", "latency_ms": "took", "status": "code", "occurred_at": "at"},
        constants={"tenant": "acme", "product": "studio"},
        time_unit="s",
        id_from="position",
    )
    result = map_row(
        source, {"svc": "checkout", "took": "12.5", "code": "503", "at": "1767222000.25"}, "their.access/3/9"
    )
    assert isinstance(result, Mapped)
    assert result.key == b"acme|checkout"
    assert (result.event["latency_ms"], result.event["status"]) == (12.5, 503)
    assert result.event["occurred_at"] == 1_767_222_000_250 and result.event["id"] == "their.access/3/9"


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"uuid": None}, "missing", "id"),
        ({"who": {}}, "missing", "user"),
        ({"who": "nobody"}, "missing", "user"),
        ({"ts": None}, "invalid", "occurred_at: missing"),
        ({"ts": "2026-01-01T00:00:00"}, "invalid", "no time zone"),
        ({"ts": "soon"}, "invalid", "RFC 3339"),
        ({"ts": True}, "invalid", "occurred_at"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], reason: str, detail: str) -> None:
    result = map_row(USAGE, {**ROW, **change}, "p")
    assert isinstance(result, Unmapped)
    assert result.reason == reason and detail in result.detail


@pytest.mark.parametrize("row", [None, 3, "text", ["list"]])
def test_what_is_no_object_is_no_event(row: object) -> None:
    assert map_row(USAGE, row, "p") == Unmapped("not_object", "the row is not one JSON object")
