"""Odd rows, looked at one by one: each becomes a plain row or a marker, or gets the reason of its dead letter.

CloudEvents in both modes give up their attributes (`schemas.cloudevents` says the same of single events); a row that says another
`schema_version` than today's is lifted (`schemas.upcast`) and read again; the fields of a plain event may be named like those of the
form around it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from core.batch import Headers
from core.meter.wire import LATEST_MS, VERSION, Bad, Decoded, Marker, Name, Wire, Zoned, missing
from schemas.upcast import upcast

MAX_VALUE_BYTES: Final = 1024 * 1024
FAILURES: Final = (ValueError, TypeError, RecursionError)
"""msgspec's errors are ValueErrors; None raises TypeError; a hundred thousand brackets a RecursionError."""


class _Attributes(msgspec.Struct, gc=False):
    specversion: str
    id: Name
    source: Name
    type: Name
    time: Zoned | None = None


class _Marker(msgspec.Struct, gc=False):
    id: Name
    type: str
    replay: Name
    at: Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)]
    act: bool = False
    products: list[tuple[str, Name]] = []


_marker = msgspec.json.Decoder(_Marker).decode
_attributes = msgspec.json.Decoder(_Attributes).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_zoned = msgspec.json.Decoder(Zoned).decode


def settle(i: int, value: bytes | None, headers: Headers, error: str | None, wire: Wire, out: Decoded) -> None:
    """Look at one odd row by itself: a marker, a CloudEvent, a plain event with strange extra fields, or a dead letter."""
    found = _resolve(value, headers, error, out.rows[i], wire)
    if isinstance(found, Bad):
        out.bad[i] = found
        out.rows[i] = wire.row()
    elif isinstance(found, Marker):
        out.markers[i] = found
        out.rows[i] = wire.row()
    else:
        out.rows[i] = found
        if found.source:
            out.events.append(i)


def _resolve(value: bytes | None, headers: Headers, error: str | None, row: Any, wire: Wire) -> Any:
    if value is None:
        return Bad("null_value", "the record has no value")
    if len(value) > MAX_VALUE_BYTES:
        return Bad("too_large", f"{len(value)} bytes; at most {MAX_VALUE_BYTES}")
    if any(name.startswith("ce_") for name, _ in headers):
        return _binary(value, headers, wire)
    if error is None and row.specversion is not None:
        return _structured(row)
    if error is None and not row.tenant and row.type.startswith("uptake.replay."):
        return _control(value)
    if error is None:
        return missing(row, wire) or Bad("invalid", "`occurred_at` is before 1970")
    try:
        fields = _object(value)
    except FAILURES as reason:
        return Bad("not_json", str(reason)[:200])
    if "specversion" in fields:
        return _older_cloudevent(fields, wire) or _broken_cloudevent(value, error)
    if str(fields.get("type", "")).startswith("uptake.replay.") and not fields.get("tenant"):
        return _control(value)
    try:
        row = _plain(value, wire)
    except FAILURES as reason:
        return Bad("invalid", str(reason)[:200])
    return row if row.occurred_at != -1 else missing(row, wire)


def _plain(value: bytes, wire: Wire) -> Any:
    """The plain event in `value` as a row, lifted where it says an older version. Raises what decoding raises, or `UnknownVersion`."""
    try:
        plain = wire.plain(value)
    except FAILURES:
        fields = _object(value)
        if not _of_another_version(fields):
            raise
        plain = wire.plain(msgspec.json.encode(_lifted(fields)))
    return wire.row(**msgspec.structs.asdict(plain))


def _older_cloudevent(event: dict[str, Any], wire: Wire) -> Any:
    """A structured CloudEvent around data of another version, with the data lifted; None where that is not what it is."""
    data = event.get("data")
    if not (isinstance(data, dict) and _of_another_version(data)):
        return None
    try:
        value = msgspec.json.encode({**event, "data": _lifted(data)})
    except FAILURES as reason:
        return Bad("invalid", str(reason)[:200])
    try:
        return _structured(wire.decode(value))
    except FAILURES as reason:
        return _broken_cloudevent(value, str(reason))


def _lifted(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields in today's shape. Raises `ValueError`: a step meets rows that nobody has checked yet."""
    try:
        return upcast("event", fields)
    except (KeyError, TypeError, AttributeError) as reason:
        raise ValueError(f"of schema_version {fields['schema_version']}, but {reason!r}") from reason


def _of_another_version(fields: dict[str, Any]) -> bool:
    return "schema_version" in fields and str(fields["schema_version"]) != VERSION


def _structured(event: Any) -> Any:
    """A structured CloudEvent: attributes around, our fields in `data`; tenant and product may be extension attributes."""
    if event.specversion != "1.0":
        return Bad("bad_cloudevent", f"specversion {event.specversion!r} is not 1.0")
    if not (event.id and event.source and event.type):
        return Bad("bad_cloudevent", "id, source and type are required")
    row = event.data
    if row is None:
        return Bad("bad_cloudevent", "data must be a JSON object")
    row.id, row.type, row.source = event.id, event.type, event.source
    if event.time is not None:
        row.occurred_at = event.time
    if not row.tenant:
        row.tenant = event.tenant
    if not row.product:
        row.product = event.product
    if row.occurred_at == -1:
        return Bad("invalid", "neither `time` nor `occurred_at` is there")
    return row


def _broken_cloudevent(value: bytes, error: str) -> Bad:
    """A structured CloudEvent that did not decode: its attributes are to blame, or its data."""
    try:
        _attributes(value)
    except FAILURES as reason:
        return Bad("bad_cloudevent", str(reason)[:200])
    return Bad("bad_cloudevent" if error.endswith("`$.data`") else "invalid", error[:200])


def _binary(value: bytes, headers: Headers, wire: Wire) -> Any:
    """A CloudEvent in binary mode: attributes in `ce_` headers, our fields in the value."""
    attributes: dict[str, str] = {}
    try:
        for name, raw in headers:
            if name.startswith("ce_"):
                if name in attributes:
                    return Bad("bad_cloudevent", f"header {name} is there twice")
                attributes[name] = raw.decode()
    except (UnicodeDecodeError, AttributeError):
        return Bad("bad_cloudevent", "a ce_ header is not UTF-8")
    if attributes.get("ce_specversion") != "1.0":
        return Bad("bad_cloudevent", f"ce_specversion is {attributes.get('ce_specversion')!r}, not '1.0'")
    for name in ("ce_id", "ce_source", "ce_type"):
        if not 0 < len(attributes.get(name, "")) <= 256:
            return Bad("bad_cloudevent", f"{name} is missing, empty or too long")
    time: datetime | None = None
    if "ce_time" in attributes:
        try:
            time = _zoned(msgspec.json.encode(attributes["ce_time"]))
        except FAILURES as reason:
            return Bad("bad_cloudevent", f"ce_time: {str(reason)[:150]}")
    try:
        row = _plain(value, wire)
    except FAILURES as reason:
        return _not_an_object(value) or Bad("invalid", str(reason)[:200])
    row.id, row.type, row.source = attributes["ce_id"], attributes["ce_type"], attributes["ce_source"]
    if time is not None:
        row.occurred_at = time
    row.tenant = row.tenant or attributes.get("ce_tenant", "")
    row.product = row.product or attributes.get("ce_product", "")
    return Bad("invalid", "neither ce_time nor `occurred_at` is there") if row.occurred_at == -1 else row


def _not_an_object(value: bytes) -> Bad | None:
    try:
        _object(value)
    except FAILURES as reason:
        return Bad("not_json", str(reason)[:200])
    return None


def _control(value: bytes) -> Marker | Bad:
    try:
        m = _marker(value)
    except FAILURES as reason:
        return Bad("invalid", f"replay marker: {str(reason)[:200]}")
    if m.type.removeprefix("uptake.replay.") not in ("begun", "progressed", "ended"):
        return Bad("invalid", f"replay marker: unknown type {m.type!r}")
    return Marker(m.type.removeprefix("uptake.replay."), m.replay, m.at, m.act, m.products)
