"""One record of a hot topic: an event, a replay marker, or the reason why it is neither (`docs/semantics.md` §1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

TENANT = re.compile(r"[a-z0-9-]{1,64}")
ATTRIBUTION = re.compile(r"organic|(campaign|command):.+", re.S)
MAX_BYTES = 1 << 20
HOUR_MS = 3_600_000


class Dead(NamedTuple):
    """A dead letter's reason."""

    reason: str


class Marker(NamedTuple):
    """A replay marker."""

    kind: str
    at: int
    act: bool
    replay: str
    products: list[tuple[str, str]]
    """(tenant, product) of the rows to come, where `begun` names them."""


class Row(NamedTuple):
    """A sound event."""

    id: str
    source: str
    tenant: str
    product: str
    occurred_at: int
    user: str
    feature: str | None
    """Of a use; None where the row is another activity."""
    organic: bool
    about: str
    """`service:x` or `feature:x`, of a request."""
    latency_us: int
    error: bool


def read(
    value: bytes | None, headers: Iterable[tuple[str, bytes]], performance: bool, broker_ms: int
) -> Row | Marker | Dead:
    """What the record is."""
    if value is None:
        return Dead("null_value")
    if len(value) > MAX_BYTES:
        return Dead("too_large")
    attributes = [(name[3:], text) for name, text in headers if name.startswith("ce_")]
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        event = None
    source = ""
    if attributes:
        found = {name: text.decode(errors="replace") for name, text in attributes}
        if found.get("specversion") != "1.0" or not all(found.get(name) for name in ("id", "source", "type")):
            return Dead("bad_cloudevent")
        if "time" in found and moment(found["time"]) is None:
            return Dead("bad_cloudevent")
        if not isinstance(event, dict):
            return Dead("not_json")
        source = found["source"]
        event = event | {"id": found["id"], "type": found["type"]}
        if "time" in found:
            event["occurred_at"] = found["time"]
        for name in ("tenant", "product"):
            event[name] = event.get(name) or found.get(name, "")
    elif not isinstance(event, dict):
        return Dead("not_json")
    elif "specversion" in event:
        around, event = event, event.get("data")
        if around["specversion"] != "1.0" or not isinstance(event, dict):
            return Dead("bad_cloudevent")
        if not all(isinstance(around.get(name), str) and around[name] for name in ("id", "source", "type")):
            return Dead("bad_cloudevent")
        source = around["source"]
        event = event | {"id": around["id"], "type": around["type"]}
        if "time" in around:
            event["occurred_at"] = around["time"]
        for name in ("tenant", "product"):
            event[name] = event.get(name) or around.get(name, "")
    elif not event.get("tenant") and str(event.get("type", "")).startswith("uptake.replay."):
        named = [(tenant, product) for tenant, product in event.get("products", ())]
        kind = event["type"].rpartition(".")[2]
        return Marker(kind, event["at"], bool(event.get("act", False)), event["replay"], named)
    return _checked(event, source, performance, broker_ms)


def _checked(e: Mapping[str, Any], source: str, performance: bool, broker_ms: int) -> Row | Dead:
    get = e.get
    at = moment(get("occurred_at"))
    named = all(_name(get(field)) for field in ("id", "product", "type"))
    if at is None or not named or not isinstance(get("tenant", ""), str):
        return Dead("invalid")
    for field in ("feature", "account", "service"):
        if get(field) is not None and not _name(get(field)):
            return Dead("invalid")
    if not isinstance(get("properties") or {}, dict):
        return Dead("invalid")
    row = _request(e) if performance else _use(e)
    if row is None:
        return Dead("invalid")
    if not TENANT.fullmatch(get("tenant") or ""):
        return Dead("bad_tenant")
    if at > broker_ms + HOUR_MS:
        return Dead("too_far_ahead")
    user, feature, organic, about, latency, error = row
    return Row(e["id"], source, e["tenant"], e["product"], at, user, feature, organic, about, latency, error)


def _use(e: Mapping[str, Any]) -> tuple[str, str | None, bool, str, int, bool] | None:
    user, said, use = e.get("user"), e.get("attribution"), e["type"] == "feature.used"
    if not _name(user) or (use and e.get("feature") is None):
        return None
    if said is not None and not (isinstance(said, str) and ATTRIBUTION.fullmatch(said)):
        return None
    return str(user), e["feature"] if use else None, said in (None, "organic"), "", 0, False


def _request(e: Mapping[str, Any]) -> tuple[str, str | None, bool, str, int, bool] | None:
    latency, status, error = e.get("latency_ms"), e.get("status"), e.get("error")
    if e["type"] != "request.completed" or isinstance(latency, bool) or not isinstance(latency, (int, float)):
        return None
    if latency < 0 or not (error is None or isinstance(error, (bool, str))):
        return None
    if status is not None and not (isinstance(status, int) and 100 <= status <= 599):
        return None
    if e.get("user") is not None and not _name(e["user"]):
        return None
    if e.get("service") is not None:
        about = f"service:{e['service']}"
    elif e.get("feature") is not None:
        about = f"feature:{e['feature']}"
    else:
        return None
    return "", None, False, about, round(latency * 1000), bool(error) or (status or 0) >= 500


def _name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def moment(value: object) -> int | None:
    """Milliseconds of a time as it is on the wire; None where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        return None
    since = when - EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
