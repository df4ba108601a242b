"""What is damaged: events in each form they come in, and definitions of every kind."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.core.meter.logs import T0
from tests.fuzz.mutate import spoiled

Outcome = dict[str, int]
RULEBOOK = Path(__file__).resolve().parents[2] / "rulebook"
EVENT = {
    "id": "e1", "tenant": "acme", "product": "shop", "type": "feature.used", "feature": "search", "user": "u1",
    "occurred_at": T0, "account": "globex", "attribution": "campaign:x", "properties": {"plan": "pro", "n": [1, 2.5]},
}  # fmt: skip
REQUEST = {
    "id": "r1", "tenant": "acme", "product": "shop", "type": "request.completed", "service": "cart", "latency_ms": 41.7,
    "status": 200, "occurred_at": "2023-11-15T12:00:00.123Z", "error": False, "user": "u1",
}  # fmt: skip
CLOUD = {
    "specversion": "1.0", "id": "c1", "source": "/shop", "type": "feature.used", "time": "2023-11-15T12:00:00Z",
    "subject": "s", "datacontenttype": "application/json", "tenant": "acme", "data": EVENT,
}  # fmt: skip
MARKER = {"type": "uptake.replay.begun", "replay": "r", "at": T0, "act": False, "products": [["acme", "shop"]]}


def ce_headers(random: Random) -> list[tuple[str, bytes]]:
    made = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"c1"),
        ("ce_source", b"/s"),
        ("ce_type", b"feature.used"),
        ("content-type", b"application/json"),
    ]
    for _ in range(random.choice((0, 1, 2))):
        name, value = random.choice(made)
        match random.randrange(4):
            case 0:
                made = [h for h in made if h[0] != name]
            case 1:
                made.append((name, value))
            case 2:
                made.append(
                    (random.choice(("ce_time", "ce_tenant", "ce_", "traceparent", name)), spoiled(random, value))
                )
            case _:
                made = [(n, spoiled(random, v)) if n == name else (n, v) for n, v in made]
        made = made or [("ce_id", b"x")]
    return made


CONDITIONED: dict[str, Any] = {
    "kind": "rule", "tenant": "acme", "name": "r", "id": "r",
    "trigger": {"kind": "event", "topic": "events.usage", "where": {"kind": "all", "of": [
        {"kind": "compare", "field": "feature", "op": "==", "value": "x"},
        {"kind": "not", "of": {"kind": "any", "of": [{"kind": "compare", "field": "properties.n", "op": ">", "value": 3}]}}]}},
    "command": {"type": "product.tutorial.deploy", "title": "{{ user }}", "text": "t", "payload": {"a": ["{{ feature }}"]}},
}  # fmt: skip


@cache
def all_definitions() -> list[dict[str, Any]]:
    found = [
        {k: v for k, v in d.items() if k != "tests"}
        for file in sorted(RULEBOOK.rglob("*.yaml"))
        for d in yaml.safe_load(file.read_text())["definitions"]
    ]
    found.append(CONDITIONED)
    found += [
        {"kind": "product", "tenant": "acme", "name": "shop", "slo": 0.99, "features": ["a"], "weights": {"trend": 1}},
        {"kind": "segment", "tenant": "acme", "name": "s", "product": "shop", "users": ["u"]},
        {"kind": "source", "name": "s", "topic": "t", "target": "events.usage", "fields": {"user": "who"},
         "constants": {"tenant": "acme"}},
        {"kind": "connection", "tenant": "acme", "name": "c", "integration": "webhook",
         "config": {"url": "https://example.com/h", "secret": {"env": "UPTAKE_SECRET_ACME__X"}, "headers": {"x": {"file": "f"}}}},
        {"kind": "connection", "tenant": "acme", "name": "m", "integration": "email",
         "config": {"host": "h", "sender": "a@b.co", "recipients": ["c@d.co"], "username": "u", "password": {"env": "X"}}},
        {"kind": "pause", "tenant": "acme", "name": "rule:x", "scope": "rule", "of": "x"},
        {"kind": "silence", "tenant": "acme", "name": "s", "ends_at": 5, "types": ["a.*"]},
        {"kind": "api_key", "tenant": "acme", "name": "k", "hash": "0" * 64, "role": "quality", "created_at": 1},
    ]  # fmt: skip
    return found
