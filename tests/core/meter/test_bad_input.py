"""Bad rows beside good ones: good rows counted exactly, bad ones set aside with their bytes and reason, nothing else touched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.definitions import Catalogue
from core.meter.task import MeterTask
from schemas.definitions import Product
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Published, Record, batch, request, usage

GOOD: dict[str, Any] = {
    "id": "bad",
    "tenant": "acme",
    "product": "app",
    "type": "feature.used",
    "feature": "f1",
    "user": "u9",
    "occurred_at": T0 + 500,
}
TIMING: dict[str, Any] = {
    "id": "bad",
    "tenant": "acme",
    "product": "app",
    "type": "request.completed",
    "service": "api",
    "latency_ms": 5,
    "occurred_at": T0 + 500,
}
CE = {"specversion": "1.0", "id": "c1", "source": "/s", "type": "feature.used", "time": "2023-11-15T00:00:00Z"}
DATA = {k: v for k, v in GOOD.items() if k not in ("id", "type", "occurred_at")}


def j(value: Any) -> bytes:
    return json.dumps(value).encode()


def without(name: str, of: dict[str, Any] = GOOD) -> bytes:
    return j({k: v for k, v in of.items() if k != name})


def ce(**headers: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((f"ce_{k}", v.encode()) for k, v in headers.items())


BAD: list[tuple[str, bytes | None, tuple[tuple[str, bytes], ...]]] = [
    ("null_value", None, ()),
    ("too_large", j(GOOD | {"properties": {"x": "y" * (1 << 20)}}), ()),
    ("not_json", b"", ()),
    ("not_json", b"hello", ()),
    ("not_json", j(GOOD)[:-5], ()),
    ("not_json", b"[1, 2]", ()),
    ("not_json", j(GOOD).replace(b"u9", b"\xff\xfe"), ()),
    ("not_json", b'{"x":' + b"[" * 100_000, ()),
    *(("invalid", without(name), ()) for name in ("id", "tenant", "product", "type", "user", "occurred_at", "feature")),
    *(
        ("invalid", j(GOOD | {name: 7}), ())
        for name in ("id", "tenant", "product", "type", "user", "feature", "account")
    ),
    *(("invalid", j(GOOD | {name: ""}), ()) for name in ("id", "product", "type", "user", "feature", "account")),
    *(("invalid", j(GOOD | {name: "x" * 257}), ()) for name in ("id", "product", "user", "feature")),
    *(("invalid", j(GOOD | {"occurred_at": t}), ()) for t in ("yesterday", "2023-11-15T00:00:00", -5, 1.5, None, True)),
    ("invalid", j(GOOD | {"occurred_at": "1969-01-01T00:00:00Z"}), ()),
    ("invalid", j(GOOD | {"attribution": "friends"}), ()),
    ("invalid", j(GOOD | {"properties": [1]}), ()),
    ("invalid", j(GOOD | {"feature": "*"}), ()),
    *(("invalid", j(GOOD | {"schema_version": v}), ()) for v in ("2", 2, "", None, True, [1])),
    ("invalid", j(CE | {"data": DATA | {"schema_version": "9"}}), ()),
    ("bad_tenant", j(GOOD | {"tenant": ""}), ()),
    ("bad_tenant", j(GOOD | {"tenant": "Acme|1"}), ()),
    ("bad_tenant", j(GOOD | {"tenant": "a" * 65}), ()),
    ("too_far_ahead", j(GOOD | {"occurred_at": T0 + 3_700_000}), ()),
    ("too_far_ahead", j(GOOD | {"occurred_at": "2999-01-01T00:00:00Z"}), ()),
    ("bad_cloudevent", j(CE | {"specversion": "2.0", "data": DATA}), ()),
    ("bad_cloudevent", j({k: v for k, v in CE.items() if k != "source"} | {"data": DATA}), ()),
    ("bad_cloudevent", j(CE), ()),
    ("bad_cloudevent", j(CE | {"data": "text"}), ()),
    ("bad_cloudevent", j(CE | {"time": "noon", "data": DATA}), ()),
    ("invalid", j(CE | {"data": DATA | {"user": 5}}), ()),
    ("invalid", j({k: v for k, v in CE.items() if k != "time"} | {"data": DATA}), ()),
    ("bad_cloudevent", j(DATA), ce(specversion="1.0", id="x")),
    ("bad_cloudevent", j(DATA), ce(specversion="0.3", id="x", source="/s", type="feature.used")),
    ("bad_cloudevent", j(DATA), ce(specversion="1.0", id="x", source="/s", type="feature.used", time="noon")),
    ("not_json", b"{", ce(specversion="1.0", id="x", source="/s", type="feature.used")),
    ("invalid", j({"type": "uptake.replay.begun", "id": "m"}), ()),
]
BAD_REQUESTS = [
    ("invalid", without("latency_ms", TIMING)),
    ("invalid", without("service", TIMING)),
    *(("invalid", j(TIMING | change)) for change in ({"latency_ms": "5"}, {"latency_ms": -1}, {"status": 99})),
    *(("invalid", j(TIMING | change)) for change in ({"error": 5}, {"type": "other"}, {"service": ""}, {"user": ""})),
]


def counted(told: Published, outcome: str, topic: str = USAGE) -> float:
    return told.counts.get(("uptake_rows_total", (topic, outcome)), 0)


def test_every_kind_of_bad_row_among_good_ones() -> None:
    records: list[Record] = []
    for i, (_, value, headers) in enumerate(BAD):
        records.append(usage(f"g{i}", T0 + i, f"u{i}", "f1"))
        records.append(Record(value, T0 + i, b"acme|u9", headers))
    records.append(usage("end", T0 + 20_000, "u0", "f1"))
    task = MeterTask(0, 1, Catalogue())
    told = Published().take(task.step(batch(records)))
    assert [(d.reason, d.offset, d.value) for d in told.dead] == [
        (reason, 2 * i + 1, value) for i, (reason, value, _) in enumerate(BAD)
    ]
    assert all(d.key == b"acme|u9" and d.detail for d in told.dead)
    assert counted(told, "accepted") == len(BAD) + 1
    assert counted(told, "dead") == len(BAD)
    assert told.version_0(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (len(BAD), len(BAD), len(BAD))


def test_bad_requests() -> None:
    records = [request("g", T0), *(Record(value, T0) for _, value in BAD_REQUESTS), request("end", T0 + 20_000)]
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch(records, PERFORMANCE)))
    assert [d.reason for d in told.dead] == [reason for reason, _ in BAD_REQUESTS]
    assert told.version_0(PERFORMANCE, "acme|app", "5m", "*", T0 + 10_000)[0] == 1


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        GOOD | {"occurred_at": "2023-11-15T00:00:00.500Z"},
        GOOD | {"occurred_at": "2023-11-15T02:00:00.500999+02:00"},
        GOOD | {"data": "ours", "source": 5, "time": [1], "extra": {"x": 1}},
        GOOD | {"properties": None, "attribution": None, "account": None},
        CE | {"time": "2023-11-15T00:00:00.5Z", "data": DATA},
        CE
        | {
            "time": "2023-11-15T00:00:00.5Z",
            "tenant": "acme",
            "product": "app",
            "data": {"user": "u9", "feature": "f1"},
        },
        {k: v for k, v in CE.items() if k != "time"} | {"data": DATA | {"occurred_at": T0 + 500}},
    ],
)
def test_good_rows_of_every_form(value: dict[str, Any]) -> None:
    records = [Record(j(value), T0), usage("end", T0 + 20_000, "u9", "other")]
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch(records)))
    assert told.dead == []
    assert told.version_0(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (1, 1, 1)


def test_cloudevents_in_binary_mode_and_their_source_in_the_identity() -> None:
    headers = ce(specversion="1.0", id="same", source="/a", type="feature.used", time="2023-11-15T00:00:00Z")
    other = ce(specversion="1.0", id="same", source="/b", type="feature.used", time="2023-11-15T00:00:00Z")
    records = [
        Record(j(DATA), T0, headers=headers),
        Record(j(DATA), T0, headers=headers),
        Record(j(DATA), T0, headers=other),
        Record(j(GOOD | {"id": "same"}), T0, headers=(("traceparent", b"00-1"),)),
        Record(j(CE | {"id": "same", "source": "/a", "data": DATA}), T0),
        usage("end", T0 + 20_000, "u9", "other"),
    ]
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch(records)))
    assert told.dead == []
    assert counted(told, "duplicate") == 2
    assert told.version_0(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (1, 3, 1)


def test_strict_mode_refuses_what_nobody_defined() -> None:
    catalogue = Catalogue()
    catalogue.put(Product(tenant="acme", name="app"))
    task = MeterTask(0, 1, catalogue, strict=True)
    records = [usage("1", T0), usage("2", T0, product="nope"), usage("3", T0, tenant="globex")]
    told = Published().take(task.step(batch(records)))
    assert [d.reason for d in told.dead] == ["unknown_product", "unknown_tenant"]
    catalogue.put(Product(tenant="acme", name="nope"))
    told = Published().take(task.step(batch([usage("4", T0, product="nope")], offset=3)))
    assert told.dead == [] and counted(told, "accepted") == 1


def test_an_old_event_is_late_or_expired_and_no_dead_letter() -> None:
    records = [
        usage("1", T0),
        usage("2", T0 - 60_000, broker=T0),
        usage("3", T0 - 40 * 86_400_000, broker=T0),
    ]
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch(records)))
    assert told.dead == []
    assert told.counts["uptake_late_rows_total", (USAGE, "late")] == 1
    assert told.counts["uptake_late_rows_total", (USAGE, "expired")] == 1


def test_dead_rows_move_no_clock_and_are_not_remembered() -> None:
    task = MeterTask(0, 1, Catalogue())
    ahead = Record(j(GOOD | {"occurred_at": T0 + 3_700_000, "id": "x"}), T0)
    told = Published().take(task.step(batch([ahead])))
    assert [d.reason for d in told.dead] == ["too_far_ahead"]
    told = Published().take(task.step(batch([usage("x", T0)], offset=1)))
    assert counted(told, "duplicate") == 0 and told.clocks[USAGE, "acme|app"] == T0 - 2_000


def test_a_name_that_is_no_text_in_a_row_without_a_tenant() -> None:
    """Found by fuzzing: what nobody declares is not decoded with the row, but is when its tenant is looked for."""
    task = MeterTask(0, 1, Catalogue())
    value = b'{"id":"1","product":"p","type":"t","user":"u","occurred_at":1,"\xff":1}'
    published = Published().take(task.step(batch([Record(value, T0), usage("2", T0)])))
    assert [letter.reason for letter in published.dead] == ["invalid"]
    assert published.counts["uptake_rows_total", (USAGE, "accepted")] == 1
