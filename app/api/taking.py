"""Events that come over HTTP: each row is checked on its own, and accepted only when Kafka has acknowledged it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import orjson
from pydantic import BaseModel, JsonValue, ValidationError

from app.api.access import Caller
from app.api.gateway import Gateway
from app.api.problems import Problem, errors_of
from app.api.spool import Outgoing
from core.meter import hot, words
from core.meter.decode import decode
from core.meter.wire import Wire
from core.sources import Unmapped
from schemas import cloudevents
from schemas.definitions import Product
from schemas.envelope import TENANT_PATTERN, key
from schemas.events import EVENTS, KEYED, Event
from schemas.upcast import UnknownVersion, upcast

BREATH: Final = 500
MAX_EVENT_BYTES: Final = 1024 * 1024
AHEAD_MS: Final = 3_600_000
LATEST_MS: Final = 253_402_300_799_999
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

Stream = Literal["usage", "performance", "contacts", "commerce", "engagement", "feedback", "development", "market"]


@dataclass(frozen=True, slots=True)
class _Form:
    """What a stream's events look like, and which of their fields makes the Kafka key."""

    word: type[Event]
    keyed_by: tuple[str, ...]


FORMS: Final[Mapping[str, _Form]] = {
    topic.removeprefix("events."): _Form(word, KEYED[topic]) for topic, word in EVENTS.items()
}

_WIRES: Final[Mapping[str, Wire]] = {**hot.WIRES, **words.WIRES}


class RejectedRow(BaseModel):
    """A row that was not taken, and why; nothing of it was written."""

    index: int
    """Its place in the request, from 0."""
    id: str | None
    reason: str
    """The dead letter that it would have become (`not_json`, `invalid`, `too_far_ahead`, …)."""
    detail: str


class Accepted(BaseModel):
    """What became of a request: every row is either accepted (Kafka has acknowledged it, or it is spooled) or rejected."""

    accepted: int
    rejected: list[RejectedRow]
    spooled: bool = False
    """True where Kafka is away and the accepted rows are on the gateway's disk, to be written in order when it is back."""


@dataclass(frozen=True, slots=True)
class _Taken:
    index: int
    id: str | None
    record: Outgoing


class _Refused(Exception):
    """One row cannot be taken."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def listed(body: bytes, what: str, most: int) -> list[JsonValue]:
    """The rows of a JSON body: one, or a list of at most `most`. `what`: what one is called. Raises `Problem` 400, 413, 422."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = f"the body is not JSON ({error}): send one {what} or a list of {what}s"
        raise Problem(400, "not-json", detail) from error
    rows = found if isinstance(found, list) else [found]
    if not rows:
        raise Problem(422, "no-events", f"the list is empty: send at least one {what}")
    if len(rows) > most:
        raise Problem(413, "too-many-events", f"{len(rows)} {what}s in one request: send at most {most}")
    return rows


async def take(
    gateway: Gateway,
    caller: Caller,
    tenant: str,
    product: str,
    rows: Sequence[JsonValue | Unmapped],
    *,
    as_cloudevents: bool = False,
    stream: Stream | None = None,
    trace: str = "",
) -> Accepted:
    """Write the rows that are events of that tenant and product; back when Kafka has acknowledged them, or they are spooled.

    What is `Unmapped` is listed as rejected.
    Raises `Problem` 422 where none is one, 429 beyond the caller's quota, 503 where Kafka does not take them.
    """
    gateway.quotas.events(caller, tenant, len(rows))
    headers = [("traceparent", trace.encode())] if _TRACEPARENT.fullmatch(trace) else []
    now = gateway.clock()
    taken: list[_Taken] = []
    rejected: list[RejectedRow] = []
    for index, row in enumerate(rows):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)  # other requests go on while a large batch is checked
        if isinstance(row, Unmapped):
            rejected.append(RejectedRow(index=index, id=None, reason=row.reason, detail=row.detail))
            continue
        try:
            record = _outgoing(gateway, row, as_cloudevents, tenant, product, stream, now, headers)
            taken.append(_Taken(index, _id_of(row), record))
        except _Refused as refused:
            rejected.append(RejectedRow(index=index, id=_id_of(row), reason=refused.reason, detail=refused.detail))
    taken = _read_as_meter_reads(taken, rejected)
    spooled = await gateway.take_in([t.record for t in taken]) if taken else False
    gateway.quotas.count(tenant, len(taken), len(rejected))
    if rejected and not taken:
        listed = [r.model_dump() for r in rejected]
        first = rejected[0]
        raise Problem(
            422,
            "no-event-accepted",
            f"no row was accepted; the first: {first.reason}: {first.detail}",
            accepted=0,
            rejected=listed,
        )
    return Accepted(accepted=len(taken), rejected=rejected, spooled=spooled)


def _outgoing(
    gateway: Gateway,
    row: JsonValue,
    as_cloudevent: bool,
    tenant: str,
    product: str,
    stream: Stream | None,
    now: int,
    headers: list[tuple[str, bytes]],
) -> Outgoing:
    if not isinstance(row, dict):
        raise _Refused("not_json", "an event is a JSON object")
    event: cloudevents.CloudEvent | None = None
    try:
        if as_cloudevent:
            event = cloudevents.from_object(row)
            row = cloudevents.event_fields(event)
        fields = upcast("event", row)
    except cloudevents.CloudEventError as error:
        raise _Refused("bad_cloudevent", str(error)) from error
    except UnknownVersion as error:
        raise _Refused("invalid", str(error)) from error
    fields = _placed(gateway, fields, tenant, product)
    chosen = stream or ("performance" if fields.get("type") == "request.completed" else "usage")
    form = FORMS[chosen]
    try:
        checked = form.word.model_validate_json(orjson.dumps(fields), strict=True)
    except (ValidationError, TypeError) as error:
        raise _Refused("invalid", _first(error)) from error
    _timely(checked, now)
    if event is None:
        written, value = list(headers), orjson.dumps(fields)
    else:
        event.data.update({"tenant": tenant, "product": product})
        written, value = cloudevents.to_structured(event)
        written += headers
    if len(value) > MAX_EVENT_BYTES:
        raise _Refused("too_large", f"{len(value)} bytes; at most {MAX_EVENT_BYTES}")
    about = next(str(v) for name in form.keyed_by if (v := getattr(checked, name)) is not None)
    source = event.source if event is not None else ""
    identity = "\x1f".join((chosen, tenant, source, checked.id))
    return Outgoing(f"events.{chosen}", key(tenant, about), value, written, identity)


def _read_as_meter_reads(taken: list[_Taken], rejected: list[RejectedRow]) -> list[_Taken]:
    """Without the rows that METER would set aside: what is accepted here is not a dead letter there."""
    kept: list[_Taken] = [t for t in taken if t.record.topic not in _WIRES]
    for topic, reader in _WIRES.items():
        of = [t for t in taken if t.record.topic == topic]
        if not of:
            continue
        bad = decode([t.record.value for t in of], {}, reader).bad
        for i, one in enumerate(of):
            if i in bad:
                rejected.append(RejectedRow(index=one.index, id=one.id, reason=bad[i].reason, detail=bad[i].detail))
            else:
                kept.append(one)
    rejected.sort(key=lambda r: r.index)
    return sorted(kept, key=lambda t: t.index)


def _id_of(row: JsonValue) -> str | None:
    found = row.get("id") if isinstance(row, dict) else None
    return found if isinstance(found, str) else None


def _placed(gateway: Gateway, fields: dict[str, JsonValue], tenant: str, product: str) -> dict[str, JsonValue]:
    """The event with its tenant and product, which have to agree with the key's and the path's."""
    found = fields.get("tenant", tenant)
    if not isinstance(found, str) or not re.fullmatch(TENANT_PATTERN, found):
        raise _Refused("bad_tenant", f"tenant {found!r} is not of a-z, 0-9 and -, at most 64")
    if found != tenant:
        raise _Refused("foreign_tenant", f"the event is of tenant {found!r}, the request speaks for {tenant!r}")
    if fields.get("product", product) != product:
        raise _Refused("wrong_product", f"the event is of product {fields['product']!r}, the path says {product!r}")
    if gateway.settings.strict and not _defined(gateway, tenant, product):
        raise _Refused("unknown_product", f"nobody defined product {product!r} of {tenant!r} (strict mode)")
    return {**fields, "tenant": tenant, "product": product}


def _defined(gateway: Gateway, tenant: str, product: str) -> bool:
    return any(p.name == product for p in gateway.catalogue.of(Product, tenant))


def _timely(event: Event, now: int) -> None:
    at = event.occurred_at
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise _Refused("invalid", "occurred_at has no time zone: write RFC 3339, such as 2026-01-31T12:00:00Z")
        at = int(at.timestamp() * 1000)
    if not 0 <= at <= LATEST_MS:
        raise _Refused("invalid", f"occurred_at {at} is not within the years 1970 to 9999")
    if at > now + AHEAD_MS:
        raise _Refused(
            "too_far_ahead", f"occurred_at is {(at - now) // 1000} s ahead of now; at most {AHEAD_MS // 1000}"
        )


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, ValidationError):
        first = errors_of(error)[0]
        return f"{first['at'] or 'event'}: {first['why']}"
    return str(error)
