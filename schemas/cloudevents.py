"""CloudEvents 1.0 on the Kafka binding, both modes, and how they hold our events. Pure helpers.

Binary mode: attributes in `ce_…` headers, data in the value. Structured mode: one JSON object with `data` inside and a
`content-type` of `application/cloudevents+json`. Attributes win over fields of the same meaning in the data: `id`, `type`
and (where given) `time` → `occurred_at`; `tenant` and `product` may stand in the data or as extension attributes.
`source` is part of an event's identity. METER reads the same form in columns (`core.meter.settle`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import orjson
from pydantic import JsonValue

from schemas.upcast import UnknownVersion, upcast

SPEC_VERSION: Final = "1.0"
STRUCTURED: Final = "application/cloudevents+json"
BATCHED: Final = "application/cloudevents-batch+json"
PREFIX: Final = "ce_"
_CORE: Final = ("id", "source", "type", "time", "subject", "datacontenttype", "dataschema")
_ATTRIBUTE_NAME: Final = re.compile(r"[a-z0-9]{1,40}")


class CloudEventError(ValueError):
    """The attributes do not hold together; the message names the one that does not."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One CloudEvent with a JSON object as data."""

    id: str
    source: str
    type: str
    data: dict[str, JsonValue]
    time: str | None = None
    """RFC 3339."""
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: dict[str, str] = field(default_factory=dict)


def from_headers(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> CloudEvent:
    """Read binary mode. Raises `CloudEventError`."""
    attributes: dict[str, JsonValue] = {}
    for name, raw in headers:
        if name == "content-type":
            attributes["datacontenttype"] = _text(name, raw)
        if not name.startswith(PREFIX):
            continue
        attribute = name.removeprefix(PREFIX)
        if attribute in attributes:
            raise CloudEventError(f"header {name} is there twice")
        attributes[attribute] = _text(name, raw)
    if value is None:
        raise CloudEventError("the record has no value: the data belongs there")
    return _made(attributes, _object(value))


def from_structured(value: bytes | str) -> CloudEvent:
    """Read structured mode; versions before 1.0 are upcast. Raises `CloudEventError`."""
    return from_object(_object(value))


def from_object(body: dict[str, JsonValue]) -> CloudEvent:
    """Read structured mode that is parsed already. Raises `CloudEventError`."""
    try:
        body = dict(upcast("cloudevent", body))
    except UnknownVersion as error:
        raise CloudEventError(str(error)) from error
    data = body.pop("data", None)
    encoded = body.pop("data_base64", None)
    if encoded is not None:
        if data is not None:
            raise CloudEventError("data and data_base64 are both there: keep one")
        data = _object(_decoded(encoded))
    if not isinstance(data, dict):
        raise CloudEventError("data has to be a JSON object with our event's fields")
    return _made(body, data)


def to_headers(event: CloudEvent) -> tuple[list[tuple[str, bytes]], bytes]:
    """Headers and value of binary mode."""
    headers = [(PREFIX + "specversion", SPEC_VERSION.encode()), ("content-type", b"application/json")]
    headers += [
        (PREFIX + name, text.encode())
        for name in _CORE
        if name != "datacontenttype" and (text := getattr(event, name)) is not None
    ]
    headers += [(PREFIX + name, text.encode()) for name, text in event.extensions.items()]
    return headers, _json(event.data)


def to_structured(event: CloudEvent) -> tuple[list[tuple[str, bytes]], bytes]:
    """Headers and value of structured mode."""
    body: dict[str, JsonValue] = {"specversion": SPEC_VERSION}
    body |= {name: text for name in _CORE if (text := getattr(event, name)) is not None}
    body |= event.extensions
    body["data"] = event.data
    return [("content-type", STRUCTURED.encode())], _json(body)


def event_fields(event: CloudEvent) -> dict[str, JsonValue]:
    """Our event as METER sees it: the data with the attributes put over it. `source` is not among them."""
    fields = dict(event.data)
    fields |= {"id": event.id, "type": event.type}
    if event.time is not None:
        fields["occurred_at"] = event.time
    for name in ("tenant", "product"):
        if not fields.get(name) and name in event.extensions:
            fields[name] = event.extensions[name]
    return fields


def from_event(fields: dict[str, JsonValue], source: str) -> CloudEvent:
    """A CloudEvent that holds one of our events: `event_fields` gives the same fields back, with a text time if it had one.

    Raises `CloudEventError` where `id` or `type` is missing.
    """
    data = dict(fields)
    time = data.pop("occurred_at") if isinstance(data.get("occurred_at"), str) else None
    attributes: dict[str, JsonValue] = {"specversion": SPEC_VERSION, "source": source}
    for name in ("id", "type"):
        attributes[name] = data.pop(name, None)
    return _made(attributes | ({"time": time} if time is not None else {}), data)


def _made(attributes: dict[str, JsonValue], data: dict[str, JsonValue]) -> CloudEvent:
    version = attributes.pop("specversion", None)
    if version != SPEC_VERSION:
        raise CloudEventError(f"specversion is {version!r}, not {SPEC_VERSION!r}")
    known: dict[str, str] = {}
    extensions: dict[str, str] = {}
    for name, value in attributes.items():
        if value is None:
            continue
        if not _ATTRIBUTE_NAME.fullmatch(name):
            raise CloudEventError(f"attribute {name!r} is not of lower-case letters and digits")
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(value, (str, int)):
            raise CloudEventError(f"attribute {name} is neither text, number nor boolean")
        (known if name in _CORE else extensions)[name] = str(value)
    for name in ("id", "source", "type"):
        if not 0 < len(known.get(name, "")) <= 256:
            raise CloudEventError(f"attribute {name} is missing, empty or longer than 256")
    if "time" in known:
        _timed(known["time"])
    kind = known.get("datacontenttype", "application/json").split(";")[0].strip()
    if kind != "application/json" and not kind.endswith("+json"):
        raise CloudEventError(f"datacontenttype is {kind}: only JSON is read")
    return CloudEvent(
        id=known["id"],
        source=known["source"],
        type=known["type"],
        data=data,
        time=known.get("time"),
        subject=known.get("subject"),
        datacontenttype=known.get("datacontenttype"),
        dataschema=known.get("dataschema"),
        extensions=extensions,
    )


def _timed(text: str) -> None:
    try:
        if datetime.fromisoformat(text).tzinfo is None:
            raise CloudEventError(f"time {text!r} has no time zone")
    except CloudEventError:
        raise
    except ValueError as error:
        raise CloudEventError(f"time {text!r} is not RFC 3339") from error


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CloudEventError(f"header {name} is not UTF-8") from error


def _object(value: bytes | str) -> dict[str, JsonValue]:
    try:
        body = orjson.loads(value)
    except ValueError as error:
        raise CloudEventError(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(body, dict):
        raise CloudEventError("not a JSON object")
    return body


def _decoded(encoded: JsonValue) -> bytes:
    try:
        return base64.b64decode(encoded if isinstance(encoded, str) else "", validate=True)
    except binascii.Error as error:
        raise CloudEventError("data_base64 is not base64") from error


def _json(body: dict[str, JsonValue]) -> bytes:
    try:
        return orjson.dumps(body)
    except (
        TypeError,
        RecursionError,
    ) as error:  # half a character, a number beyond 64 bits: from a body that was no JSON
        raise CloudEventError(f"cannot be written as JSON: {str(error)[:200]}") from error


__all__: Sequence[str] = (
    "BATCHED",
    "STRUCTURED",
    "CloudEvent",
    "CloudEventError",
    "event_fields",
    "from_event",
    "from_headers",
    "from_object",
    "from_structured",
    "to_headers",
    "to_structured",
)
