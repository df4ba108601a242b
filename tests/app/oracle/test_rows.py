"""What a record is: sound, a marker, or dead for the first reason that applies."""

from __future__ import annotations

import json

import pytest

from app.oracle.rows import Dead, Marker, Row, moment, read
from tests.app.oracle.logs import BROKER, T0, marker, request, use


def test_a_use() -> None:
    row = read(use(1, T0, attribution="campaign:x"), [], False, BROKER)
    assert row == Row("e1", "", "t", "p", T0, "u", "f", False, "", 0, False)


def test_a_request_rounds_half_to_even_and_knows_its_errors() -> None:
    row = read(request(1, T0, 0.0025, status=503), [], True, BROKER)
    assert isinstance(row, Row)
    assert (row.latency_us, row.error, row.about) == (2, True, "service:s")
    for more, error in (({"error": ""}, False), ({"error": "x"}, True), ({"error": False, "status": 499}, False)):
        row = read(request(1, T0, **more), [], True, BROKER)
        assert isinstance(row, Row) and row.error is error


def test_both_time_formats() -> None:
    assert moment("2025-03-03T00:00:00.123456Z") == T0 + 123
    assert moment("2025-03-03T01:00:00+01:00") == T0
    assert moment(T0) == T0
    assert moment("2025-03-03T00:00:00") is None
    assert moment(-1) is None


def test_cloudevents_in_both_modes() -> None:
    data = {"tenant": "t", "product": "p", "user": "u", "feature": "f"}
    around = {"specversion": "1.0", "id": "e1", "source": "/s", "type": "feature.used", "time": "2025-03-03T00:00:00Z"}
    expected = Row("e1", "/s", "t", "p", T0, "u", "f", True, "", 0, False)
    assert read(json.dumps(around | {"data": data}).encode(), [], False, BROKER) == expected
    headers = [(f"ce_{name}", text.encode()) for name, text in around.items()]
    assert read(json.dumps(data).encode(), headers, False, BROKER) == expected


def test_a_marker() -> None:
    assert read(marker(T0), [], False, BROKER) == Marker("progressed", T0, True, "r", [])


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (None, [], "null_value"),
        (b" " * ((1 << 20) + 1), [], "too_large"),
        (b"{", [], "not_json"),
        (b"[]", [], "not_json"),
        (use(1, T0), [("ce_id", b"x")], "bad_cloudevent"),
        (b'{"specversion":"0.3","id":"x"}', [], "bad_cloudevent"),
        (b"{}", [], "invalid"),
        (use(1, T0, user=""), [], "invalid"),
        (use(1, T0, attribution="luck"), [], "invalid"),
        (use(1, T0, properties=[1]), [], "invalid"),
        (use(1, T0, tenant=""), [], "bad_tenant"),
        (use(1, T0, tenant="A|b"), [], "bad_tenant"),
        (use(1, BROKER + 3_600_001), [], "too_far_ahead"),
    ],
)
def test_the_first_reason(value: bytes | None, headers: list[tuple[str, bytes]], reason: str) -> None:
    assert read(value, headers, False, BROKER) == Dead(reason)
