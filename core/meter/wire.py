"""Bytes to rows: one typed C decode an event, for plain JSON and structured CloudEvents alike.

The good path runs no Python bytecode per event. A row that fails, is a CloudEvent, a marker or lacks its time is looked
at by itself (`_settle`) and comes back as a plain row, or with the reason of its dead letter. So is a row that says another
`schema_version` than today's: it is lifted (`schemas.upcast`) and read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress, repeat
from operator import attrgetter, is_
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from core.batch import Headers, Int64s
from schemas.upcast import upcast

MAX_VALUE_BYTES: Final = 1024 * 1024
LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""

Text = Annotated[str, msgspec.Meta(max_length=256)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
When = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)] | Annotated[datetime, msgspec.Meta(tz=True)]
Zoned = Annotated[datetime, msgspec.Meta(tz=True)]
Version = Literal["1", 1]
"""Today's version of an event, as it may be written; any other fails to decode and takes the slow way."""
VERSION: Final = "1"
"""Of a row that says none."""


class Anything(msgspec.Struct, gc=False, frozen=True):
    """A JSON object whose content METER does not look at."""


class UsageRow(msgspec.Struct, gc=False):
    """A usage event, and the attributes of the structured CloudEvent that may be around it.

    A required field that is missing keeps its default, which no valid row has. Fields stand in the usual order on the wire.
    """

    id: Text = ""
    tenant: str = ""
    product: Text = ""
    type: Text = ""
    feature: Name | None = None
    user: Text = ""
    account: Name | None = None
    occurred_at: When = -1
    properties: Anything | None = None
    schema_version: Version = VERSION
    attribution: str | None = None
    specversion: str | None = None
    source: str = ""
    time: Zoned | None = None
    data: UsageRow | None = None


class PerformanceRow(msgspec.Struct, gc=False):
    """A performance event, and the attributes of the structured CloudEvent that may be around it."""

    id: Text = ""
    tenant: str = ""
    product: Text = ""
    type: Text = ""
    service: Name | None = None
    feature: Name | None = None
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = -1.0
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    error: bool | str | None = None
    user: Name | None = None
    occurred_at: When = -1
    properties: Anything | None = None
    schema_version: Version = VERSION
    specversion: str | None = None
    source: str = ""
    time: Zoned | None = None
    data: PerformanceRow | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    id: Text = ""
    tenant: str = ""
    product: Text = ""
    type: Text = ""
    feature: Name | None = None
    user: Text = ""
    account: Name | None = None
    occurred_at: When = -1
    properties: Anything | None = None
    schema_version: Version = VERSION
    attribution: str | None = None


class _PlainPerformance(msgspec.Struct, gc=False):
    id: Text = ""
    tenant: str = ""
    product: Text = ""
    type: Text = ""
    service: Name | None = None
    feature: Name | None = None
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = -1.0
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    error: bool | str | None = None
    user: Name | None = None
    occurred_at: When = -1
    properties: Anything | None = None
    schema_version: Version = VERSION


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


class Bad(NamedTuple):
    """Why a row is a dead letter."""

    reason: str
    detail: str


class Marker(NamedTuple):
    """A control record of `send` or `simulate`."""

    type: str
    replay: str
    at: int
    act: bool
    products: list[tuple[str, str]]
    """Of `begun`: (tenant, product) of the rows to come."""


@dataclass(slots=True)
class Decoded:
    """Rows of a batch; those in `bad` and `markers` stand as blanks."""

    rows: list[Any]
    times: Int64s
    """Milliseconds; -1 where the row is a blank."""
    bad: dict[int, Bad] = field(default_factory=dict)
    markers: dict[int, Marker] = field(default_factory=dict)
    events: list[int] = field(default_factory=list)
    """Rows that came as CloudEvents: their `source` is part of their identity."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How one topic is read."""

    decode: Callable[[bytes], Any]
    plain: Callable[[bytes], Any]
    row: type[Any]
    required: tuple[str, ...]


_COMMON = ("id", "tenant", "product", "type", "occurred_at")
USAGE: Final = Wire(
    msgspec.json.Decoder(UsageRow).decode, msgspec.json.Decoder(_PlainUsage).decode, UsageRow, (*_COMMON, "user")
)
PERFORMANCE: Final = Wire(
    msgspec.json.Decoder(PerformanceRow).decode,
    msgspec.json.Decoder(_PlainPerformance).decode,
    PerformanceRow,
    (*_COMMON, "latency_ms"),
)
_marker = msgspec.json.Decoder(_Marker).decode
_attributes = msgspec.json.Decoder(_Attributes).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_zoned = msgspec.json.Decoder(Zoned).decode
_occurred_at = attrgetter("occurred_at")
_FAILURES = (ValueError, TypeError, RecursionError)
"""msgspec's errors are ValueErrors; None raises TypeError; a hundred thousand brackets a RecursionError."""


def decode(values: Sequence[bytes | None], headed: Mapping[int, Headers], wire: Wire) -> Decoded:
    """Every value as a row of `wire`, or the reason why not. Never raises for a row's sake."""
    rows: list[Any] = []
    failed: dict[int, str] = {}
    stream = map(wire.decode, values)  # type: ignore[arg-type]
    while True:
        try:
            rows.extend(stream)  # keeps what it had when it raises, and the iterator goes on behind the bad row
            break
        except _FAILURES as error:
            failed[len(rows)] = str(error)
            rows.append(wire.row())
    decoded = Decoded(rows, _EMPTY)
    suspects = set(failed)
    if max(map(len, filter(None, values)), default=0) > MAX_VALUE_BYTES:
        suspects.update(i for i, v in enumerate(values) if v is not None and len(v) > MAX_VALUE_BYTES)
    for i, headers in headed.items():
        if any(name.startswith("ce_") for name, _ in headers):
            suspects.add(i)
    times = milliseconds(rows)
    suspects.update(np.flatnonzero(times < 0).tolist())
    if suspects:
        for i in sorted(suspects):
            _settle(i, values[i], headed.get(i, ()), failed.get(i), wire, decoded)
        at = sorted(suspects)
        times[at] = milliseconds([rows[i] for i in at])
    decoded.times = times
    return decoded


def milliseconds(rows: Sequence[Any]) -> Int64s:
    """`occurred_at` of the rows; RFC 3339 times are cut to the millisecond."""
    stamps = list(map(_occurred_at, rows))
    try:
        return np.fromiter(stamps, np.int64, len(stamps))
    except TypeError:
        dated = np.fromiter(map(is_, map(type, stamps), repeat(datetime)), np.bool_, len(stamps))
        out = np.empty(len(stamps), np.int64)
        seconds = np.fromiter(map(datetime.timestamp, compress(stamps, dated.tolist())), np.float64)
        out[dated] = np.rint(seconds * 1e6).astype(np.int64) // 1000  # whole microseconds are exact in a double
        out[~dated] = np.fromiter(compress(stamps, (~dated).tolist()), np.int64)
        return out


def explain(row: Any, wire: Wire) -> Bad:
    """Why a decoded row that lacks something is no event."""
    for name in wire.required:
        value = getattr(row, name)
        if value in ("", -1, -1.0) and not (name == "tenant"):
            return Bad("invalid", f"`{name}` is missing or empty")
    return Bad("invalid", "a field is missing or has a wrong type")


_EMPTY: Final = np.empty(0, np.int64)


def _settle(i: int, value: bytes | None, headers: Headers, error: str | None, wire: Wire, out: Decoded) -> None:
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
        return explain(row, wire) if row.occurred_at == -1 else Bad("invalid", "`occurred_at` is before 1970")
    try:
        fields = _object(value)
    except _FAILURES as reason:
        return Bad("not_json", str(reason)[:200])
    if "specversion" in fields:
        return _older_cloudevent(fields, wire) or _broken_cloudevent(value, error)
    if str(fields.get("type", "")).startswith("uptake.replay.") and not fields.get("tenant"):
        return _control(value)
    try:
        return _widen(_plain(value, wire), wire)
    except _FAILURES as reason:
        return Bad("invalid", str(reason)[:200])


def _plain(value: bytes, wire: Wire) -> Any:
    """The event in `value`, lifted where it says an older version. Raises what decoding raises, or `UnknownVersion`."""
    try:
        return wire.plain(value)
    except _FAILURES:
        fields = _object(value)
        if not _of_another_version(fields):
            raise
        return wire.plain(msgspec.json.encode(_lifted(fields)))


def _older_cloudevent(event: dict[str, Any], wire: Wire) -> Any:
    """A structured CloudEvent around data of another version, with the data lifted; None where that is not what it is."""
    data = event.get("data")
    if not (isinstance(data, dict) and _of_another_version(data)):
        return None
    try:
        value = msgspec.json.encode({**event, "data": _lifted(data)})
    except _FAILURES as reason:
        return Bad("invalid", str(reason)[:200])
    try:
        return _structured(wire.decode(value))
    except _FAILURES as reason:
        return _broken_cloudevent(value, str(reason))


def _lifted(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields in today's shape. Raises `ValueError`: a step meets rows that nobody has checked yet."""
    try:
        return upcast("event", fields)
    except (KeyError, TypeError, AttributeError) as reason:
        raise ValueError(f"of schema_version {fields['schema_version']}, but {reason!r}") from reason


def _of_another_version(fields: dict[str, Any]) -> bool:
    return "schema_version" in fields and str(fields["schema_version"]) != VERSION


def _widen(plain: Any, wire: Wire) -> Any:
    row = wire.row(**{name: getattr(plain, name) for name in plain.__struct_fields__})
    return explain(row, wire) if row.occurred_at == -1 else row


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
    except _FAILURES as reason:
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
        except _FAILURES as reason:
            return Bad("bad_cloudevent", f"ce_time: {str(reason)[:150]}")
    try:
        plain = _plain(value, wire)
    except _FAILURES as reason:
        return _not_an_object(value) or Bad("invalid", str(reason)[:200])
    row = wire.row(**{name: getattr(plain, name) for name in plain.__struct_fields__})
    row.id, row.type, row.source = attributes["ce_id"], attributes["ce_type"], attributes["ce_source"]
    if time is not None:
        row.occurred_at = time
    row.tenant = row.tenant or attributes.get("ce_tenant", "")
    row.product = row.product or attributes.get("ce_product", "")
    return Bad("invalid", "neither ce_time nor `occurred_at` is there") if row.occurred_at == -1 else row


def _not_an_object(value: bytes) -> Bad | None:
    try:
        _object(value)
    except _FAILURES as reason:
        return Bad("not_json", str(reason)[:200])
    return None


def _control(value: bytes) -> Marker | Bad:
    try:
        m = _marker(value)
    except _FAILURES as reason:
        return Bad("invalid", f"replay marker: {str(reason)[:200]}")
    if m.type.removeprefix("uptake.replay.") not in ("begun", "progressed", "ended"):
        return Bad("invalid", f"replay marker: unknown type {m.type!r}")
    return Marker(m.type.removeprefix("uptake.replay."), m.replay, m.at, m.act, m.products)
