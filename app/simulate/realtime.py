"""A cause for every row of D1 in raw events: a week of calm, then a product that is used ten times as much and slow, and its twin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from app.simulate.beside import Happened, Planted
from app.simulate.plan import START_MS

TENANT, PRODUCT, TWIN = "initech", "shop", "twin"
MINUTE, HOUR = 60_000, 3_600_000
CALM_H, ODD_H = 8 * 24, 3
HOURS = tuple(START_MS + hour * HOUR for hour in range(1, CALM_H + ODD_H))
USERS = 40
MORE, SLOWER = 10, 20
ROWS = ("D1.1", "D1.2", "D1.3", "D1.4")
APDEX_T_MS = 300.0
CLOSE = 1e-6
BUCKET = 2 ** (1 / 16)
"""A percentile is told as the upper bound of its bucket in the sketch (docs/semantics.md), which is so many times its lower bound."""


def planted(seed: int) -> Planted:
    """Uses and requests of both products, alike until the calm ends."""
    return Planted(
        "D1", "a week of calm, then a cause", TENANT, list(_events(seed)), [], START_MS + (CALM_H + ODD_H) * HOUR
    )


def _events(seed: int) -> Iterator[Happened]:
    chance = np.random.default_rng(seed)
    for minute in range((CALM_H + ODD_H) * 60):
        for k in range(2):
            at, user = START_MS + minute * MINUTE + k * 13_000, f"u{chance.integers(0, USERS)}"
            latency = 100 + int(chance.integers(0, 40))
            for product in (PRODUCT, TWIN):
                odd = product == PRODUCT and minute >= CALM_H * 60
                common: dict[str, Any] = {"tenant": TENANT, "product": product}
                for copy in range(MORE if odd else 1):
                    used = {"id": f"{minute}-{k}-{copy}", "type": "feature.used", "feature": "f", "user": user}
                    yield _happened("events.usage", at + copy, common | used)
                asked = {"id": f"{minute}-{k}-r", "type": "request.completed", "service": "api", "status": 200}
                slow = {"latency_ms": latency * (SLOWER if odd else 1)}
                yield _happened("events.performance", at, common | asked | slow)


def _happened(topic: str, at: int, body: dict[str, Any]) -> Happened:
    # Both products' rows have the ids of their moment: an identity is of a tenant, so the product is part of it.
    body["id"] = f"{body['product']}-{body['id']}"
    return Happened(topic, at, body | {"occurred_at": at})


def differences(commands: Iterable[Mapping[str, Any]], events: Iterable[Happened]) -> dict[str, list[str]]:
    """Row → where a figure in its commands is not that of the raw events in the window that the command names."""
    rows = [e for e in events if e.body["product"] == PRODUCT]
    used = [(e.at, e.body["user"]) for e in rows if e.topic == "events.usage"]
    asked = [(e.at, e.body["latency_ms"]) for e in rows if e.topic == "events.performance"]
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for command in (c for c in commands if c["product"] == PRODUCT):
        begin, end = command["why"]["window_start"], command["why"]["window_end"]
        users = [u for at, u in used if begin <= at < end]
        latency = np.array([ms for at, ms in asked if begin <= at < end])
        row, payload = command["rule"], command["payload"]
        right: float
        if row == "D1.2":
            # A percentile of few requests lies anywhere between two of them.
            low, high = (float(np.quantile(latency, 0.95, method=m)) for m in ("lower", "higher"))
            if not low <= payload["value_ms"] <= high * BUCKET * (1 + CLOSE):
                found[row].append(
                    f"{row}: {payload['value_ms']!r} of {begin} to {end}, the raw events say {low} to {high}"
                )
            continue
        match row:
            case "D1.1":
                right = len(users)
            case "D1.3":
                right = len(users) / max(1, len(set(users)))
            case "D1.4":
                right = (
                    (latency <= APDEX_T_MS).sum() + ((latency > APDEX_T_MS) & (latency <= 4 * APDEX_T_MS)).sum() / 2
                ) / len(latency)
            case _:
                continue
        if abs(payload["value"] - right) > CLOSE * max(1.0, abs(right)):
            found[row].append(f"{row}: {payload['value']!r} of {begin} to {end}, the raw events say {right!r}")
    return found
