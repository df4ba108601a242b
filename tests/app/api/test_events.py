from __future__ import annotations

import json
import time

import httpx
import pytest
from aiokafka.partitioner import murmur2

from core.meter import hot
from core.meter.decode import decode
from tests.helpers.gateway import Served

pytestmark = pytest.mark.kafka


def a_use(id: str, **changed: object) -> dict[str, object]:
    event = {"id": id, "type": "feature.used", "feature": "search", "user": "u1", "occurred_at": "2026-01-02T03:04:05Z"}
    return {**event, **changed}


def a_request(id: str, **changed: object) -> dict[str, object]:
    event = {
        "id": id,
        "type": "request.completed",
        "service": "cart",
        "latency_ms": 12.5,
        "occurred_at": 1_700_000_000_000,
    }
    return {**event, **changed}


def send(gateway: Served, product: str, body: object, **headers: str) -> httpx.Response:
    with gateway.client("operations") as client:
        return client.post(
            f"/api/v1/products/{product}/events",
            content=json.dumps(body),
            headers={"content-type": "application/json", **headers},
        )


def test_an_accepted_event_stands_in_kafka_under_its_key_where_meter_reads_it(gateway: Served) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = send(gateway, "p-one", a_use("one-1", extra={"a": 1}), traceparent=trace)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": [], "spooled": False})
    (record,) = [r for r in gateway.written("events.usage") if b"one-1" in (r.value or b"")]
    assert record.key == b"acme|u1"
    assert record.partition == (murmur2(b"acme|u1") & 0x7FFFFFFF) % 3
    assert dict(record.headers) == {"traceparent": trace.encode()}
    decoded = decode([record.value], {}, hot.USAGE)
    assert (decoded.bad, decoded.rows[0].tenant, decoded.rows[0].product) == ({}, "acme", "p-one")
    assert json.loads(record.value or b"")["extra"] == {"a": 1}


def test_a_batch_goes_to_the_topics_of_its_types(gateway: Served) -> None:
    batch = [a_use("two-1"), a_request("two-2"), a_request("two-3", service=None, feature="search")]
    del batch[2]["service"]
    assert send(gateway, "p-two", batch).json() == {"accepted": 3, "rejected": [], "spooled": False}
    found = {
        json.loads(r.value or b"")["id"]: (r.topic, r.key)
        for r in gateway.written("events.usage", "events.performance")
        if b"two-" in (r.value or b"")
    }
    assert found == {
        "two-1": ("events.usage", b"acme|u1"),
        "two-2": ("events.performance", b"acme|cart"),
        "two-3": ("events.performance", b"acme|search"),
    }


FUTURE = time.time_ns() // 1_000_000 + 2 * 3_600_000
BAD = [
    ("not an object", "not_json", ""),
    (a_use(""), "invalid", "id"),
    ({k: v for k, v in a_use("x").items() if k != "occurred_at"}, "invalid", "occurred_at"),
    (a_use("x", user=7), "invalid", "user"),
    (a_use("x", occurred_at="2026-01-02T03:04:05"), "invalid", "zone"),
    (a_use("x", occurred_at="1700000000000"), "invalid", "RFC"),
    (a_use("x", occurred_at=True), "invalid", "occurred_at"),
    (a_use("x", occurred_at=-1), "invalid", "occurred_at"),
    (a_use("x", occurred_at=FUTURE), "too_far_ahead", "3600"),
    (a_use("x", feature=None), "invalid", "feature"),
    (a_use("x", attribution="mother"), "invalid", "attribution"),
    (a_use("x", tenant="other"), "foreign_tenant", "other"),
    (a_use("x", tenant=""), "bad_tenant", ""),
    (a_use("x", tenant="A|B"), "bad_tenant", ""),
    (a_use("x", product="elsewhere"), "wrong_product", "elsewhere"),
    (a_use("x", schema_version=9), "invalid", "schema_version"),
    (a_use("x", properties={"blob": "y" * 1_100_000}), "too_large", "1048576"),
    (a_request("x", latency_ms=-1), "invalid", "latency_ms"),
    (a_request("x", latency_ms="12"), "invalid", "latency_ms"),
    (a_request("x", status=99), "invalid", "status"),
]


def test_bad_rows_are_named_one_by_one_and_good_ones_beside_them_are_taken(gateway: Served) -> None:
    batch: list[object] = []
    for i, (bad, _, _) in enumerate(BAD):
        batch += [a_use(f"mixed-{i}"), bad]
    answer = send(gateway, "p-mixed", batch)
    assert answer.status_code == 207
    body = answer.json()
    assert body["accepted"] == len(BAD)
    assert [r["index"] for r in body["rejected"]] == list(range(1, 2 * len(BAD), 2))
    for row, (bad, reason, named) in zip(body["rejected"], BAD, strict=True):
        assert row["reason"] == reason, (bad, row)
        assert named.lower() in row["detail"].lower(), (bad, row)
    stand = [r for r in gateway.written("events.usage") if b'"mixed-' in (r.value or b"")]
    assert len(stand) == len(BAD)


@pytest.mark.parametrize(("bad", "reason", "named"), BAD, ids=[f"{b[1]}-{i}" for i, b in enumerate(BAD)])
def test_a_request_of_bad_rows_only_is_a_problem(gateway: Served, bad: object, reason: str, named: str) -> None:
    answer = send(gateway, "p-bad", [bad])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [r["reason"] for r in answer.json()["rejected"]] == [reason]
    assert answer.json()["type"] == "urn:uptake:problem:no-event-accepted"


@pytest.mark.parametrize(
    ("body", "kind", "status", "named"),
    [
        (b"{", "application/json", 400, "not JSON"),
        (b"[]", "application/json", 422, "empty"),
        (b"{}", "text/plain", 415, "text/plain"),
        (b"{}", "", 415, "none"),
        (json.dumps([{}] * 10_001).encode(), "application/json", 413, "10000"),
        (b'"' + b"x" * (17 << 20) + b'"', "application/json", 413, "fewer"),
    ],
)
def test_bodies_that_cannot_be_read(gateway: Served, body: bytes, kind: str, status: int, named: str) -> None:
    with gateway.client("operations") as client:
        headers = {"content-type": kind} if kind else {}
        answer = client.post("/api/v1/products/p/events", content=body, headers=headers)
    assert answer.status_code == status
    assert named in answer.json()["detail"]


def test_a_body_that_grows_past_the_limit_while_it_arrives_is_refused(gateway: Served) -> None:
    def chunks() -> object:
        for _ in range(40):
            yield b"x" * (1 << 20)

    with gateway.client("operations") as client:
        answer = client.post(
            "/api/v1/products/p/events", content=chunks(), headers={"content-type": "application/json"}
        )  # type: ignore[arg-type]
    assert answer.status_code == 413


def test_cloudevents_keep_their_source(gateway: Served) -> None:
    event = {
        "specversion": "1.0", "id": "ce-1", "source": "app://web", "type": "feature.used", "time": "2026-01-02T03:04:05Z",
        "data": {"feature": "search", "user": "u9"},
    }  # fmt: skip
    old = {**event, "specversion": "0.3", "id": "ce-2", "schemaurl": "http://x"}
    bad = {**event, "id": ""}
    one = send(gateway, "p-ce", event, **{"content-type": "application/cloudevents+json"})
    assert one.status_code == 202, one.text
    many = send(gateway, "p-ce", [old, bad], **{"content-type": "application/cloudevents-batch+json"})
    assert (many.status_code, many.json()["rejected"][0]["reason"]) == (207, "bad_cloudevent")
    found = [r for r in gateway.written("events.usage") if b"app://web" in (r.value or b"")]
    assert len(found) == 2
    for record in found:
        assert dict(record.headers)["content-type"] == b"application/cloudevents+json"
        (row,) = decode([record.value], {0: record.headers}, hot.USAGE).rows
        assert (row.source, row.tenant, row.product, row.user) == ("app://web", "acme", "p-ce", "u9")
    assert {json.loads(r.value or b"")["id"] for r in found} == {"ce-1", "ce-2"}


@pytest.mark.parametrize(
    ("stream", "event", "key"),
    [
        ("feedback", {"id": "f1", "type": "rating.given", "rating": 4, "occurred_at": 1}, b"acme|p-streams"),
        ("contacts", {"id": "c1", "type": "contact.added", "contact": "c7", "occurred_at": 1}, b"acme|c7"),
        ("development", {"id": "d1", "type": "build.failed", "subject": "main", "occurred_at": 1}, b"acme|main"),
    ],
)
def test_other_streams_are_asked_for_by_name(
    gateway: Served, stream: str, event: dict[str, object], key: bytes
) -> None:
    answer = send(gateway, f"p-streams/events?stream={stream}#", event)
    assert answer.status_code == 202, answer.text
    assert [r.key for r in gateway.written(f"events.{stream}")] == [key]


def test_a_key_for_all_tenants_says_which_one(gateway: Served) -> None:
    with gateway.client("operations", "all") as client:
        path = "/api/v1/products/p-all/events"
        assert client.post(path, json=a_use("all-1")).status_code == 422
        assert client.post(path, params={"tenant": "third"}, json=a_use("all-1")).status_code == 202
    (record,) = [r for r in gateway.written("events.usage") if b"all-1" in (r.value or b"")]
    assert record.key == b"third|u1"


def test_ten_thousand_events_at_once(gateway: Served) -> None:
    answer = send(gateway, "p-many", [a_use(f"many-{i}", user=f"u{i}") for i in range(10_000)])
    assert answer.json() == {"accepted": 10_000, "rejected": [], "spooled": False}
    stand = {json.loads(r.value or b"")["id"] for r in gateway.written("events.usage") if b'"many-' in (r.value or b"")}
    assert len(stand) == 10_000
