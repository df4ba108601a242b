"""Tiny logs, written by hand."""

from __future__ import annotations

import json
from typing import Any

from app.oracle.partition import Folded, Partition

T0 = 1_740_960_000_000
"""2025-03-03T00:00Z."""
BROKER = T0 + 30 * 86_400_000
MIN = 60_000


def use(n: int, at: int, user: str = "u", feature: str | None = "f", **more: Any) -> bytes:
    row = {"id": f"e{n}", "tenant": "t", "product": "p", "user": user, "occurred_at": at}
    row["type"] = "feature.used" if feature else "session.active"
    return json.dumps(row | ({"feature": feature} if feature else {}) | more).encode()


def request(n: int, at: int, latency_ms: float = 10, **more: Any) -> bytes:
    row = {"id": f"r{n}", "tenant": "t", "product": "p", "service": "s", "occurred_at": at}
    return json.dumps(row | {"type": "request.completed", "latency_ms": latency_ms} | more).encode()


def marker(at: int, kind: str = "progressed", **more: Any) -> bytes:
    body = {"type": f"uptake.replay.{kind}", "id": f"m{at}", "replay": "r", "at": at, "act": True}
    return json.dumps(body | more).encode()


def folded(values: list[bytes], performance: bool = False, partition: int = 0) -> Folded:
    made = Partition(performance, partition)
    for value in values:
        made.add(value, [], BROKER)
    return made.folded()
