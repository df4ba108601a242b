from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.meter import hot
from core.meter.decode import decode
from schemas.cloudevents import (
    CloudEvent,
    CloudEventError,
    event_fields,
    from_event,
    from_headers,
    from_structured,
    to_headers,
    to_structured,
)
from schemas.events import UsageEvent

FIELDS = {
    "id": "e1",
    "tenant": "acme",
    "product": "shop",
    "type": "feature.used",
    "feature": "search",
    "user": "u1",
    "occurred_at": "2026-01-02T03:04:05.678Z",
    "properties": {"plan": "pro"},
}

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | names, lambda v: st.lists(v, max_size=3), max_leaves=5
)
events = st.builds(
    CloudEvent,
    id=names,
    source=names,
    type=names,
    data=st.dictionaries(names, json_values, max_size=5),
    time=st.none() | st.datetimes(timezones=st.timezones()).map(lambda d: d.isoformat()),
    subject=st.none() | names,
    extensions=st.dictionaries(st.from_regex(r"x[a-z0-9]{1,10}", fullmatch=True), names, max_size=3),
)


@given(events)
def test_both_modes_give_back_what_they_were_given(event: CloudEvent) -> None:
    headers, value = to_headers(event)
    read = from_headers(headers, value)
    assert (read.datacontenttype, read.data) == ("application/json", event.data)
    assert to_structured(read) != to_structured(event)  # binary mode names the content type of its data
    assert (read.id, read.source, read.type, read.time, read.subject, read.extensions) == (
        event.id, event.source, event.type, event.time, event.subject, event.extensions,
    )  # fmt: skip
    headers, value = to_structured(event)
    assert headers == [("content-type", b"application/cloudevents+json")]
    assert from_structured(value) == event


@pytest.mark.parametrize("mode", [to_headers, to_structured])
def test_our_event_inside_is_what_meter_reads(mode: object) -> None:
    headers, value = (
        to_headers(from_event(FIELDS, "app://web"))
        if mode is to_headers
        else to_structured(from_event(FIELDS, "app://web"))
    )
    event = from_headers(headers, value) if mode is to_headers else from_structured(value)
    assert event.source == "app://web"
    assert event_fields(event) == FIELDS
    assert UsageEvent.model_validate(event_fields(event)).user == "u1"
    decoded = decode([value], {0: headers}, hot.USAGE)
    (row,) = decoded.rows
    assert decoded.bad == {}
    assert (row.id, row.tenant, row.product, row.type, row.feature, row.user, row.source) == (
        "e1", "acme", "shop", "feature.used", "search", "u1", "app://web",
    )  # fmt: skip


def test_tenant_and_product_may_be_extension_attributes() -> None:
    data = {k: v for k, v in FIELDS.items() if k in ("feature", "user")}
    event = CloudEvent(
        "e1", "s", "feature.used", data, FIELDS["occurred_at"], extensions={"tenant": "acme", "product": "shop"}
    )
    assert {k: v for k, v in FIELDS.items() if k != "properties"} == event_fields(event)


GOOD = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"specversion": "9"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": ""}, "id"),
        ({"source": None}, "source"),
        ({"type": "t" * 257}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-01-01T00:00:00"}, "time zone"),
        ({"data": [1]}, "data"),
        ({"data_base64": "e30="}, "both"),
        ({"data": None, "data_base64": "%%"}, "base64"),
        ({"BAD": "x"}, "BAD"),
        ({"ext": {"a": 1}}, "ext"),
        ({"datacontenttype": "text/xml"}, "text/xml"),
    ],
)
def test_what_does_not_hold_together_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(CloudEventError, match=named):
        from_structured(json.dumps(GOOD | change))


@pytest.mark.parametrize("value", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(value: bytes) -> None:
    with pytest.raises(CloudEventError):
        from_structured(value)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ([("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"s")], "type"),
        ([("ce_specversion", b"0.3"), ("ce_id", b"1"), ("ce_source", b"s"), ("ce_type", b"t")], "specversion"),
        ([("ce_specversion", b"1.0"), ("ce_id", b"\xff"), ("ce_source", b"s"), ("ce_type", b"t")], "ce_id"),
        ([("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_id", b"2")], "twice"),
    ],
)
def test_bad_headers_are_named_and_meter_refuses_them_too(headers: list[tuple[str, bytes]], named: str) -> None:
    with pytest.raises(CloudEventError, match=named):
        from_headers(headers, b"{}")
    assert decode([b"{}"], {0: headers}, hot.USAGE).bad[0].reason == "bad_cloudevent"


def test_a_record_without_a_value_is_refused() -> None:
    with pytest.raises(CloudEventError, match="no value"):
        from_headers([("ce_id", b"1")], None)
