"""D1 from raw events: METER's fold and DECIDE's judgement, a product with the cause and its twin without."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from core.batch import Batch
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Emit
from core.meter.task import MeterTask
from core.rulebook import load_rulebook
from schemas.registers import Clock, encode

ROOT = Path(__file__).parents[2] / "rulebook"
BEGIN, MINUTE, HOUR = 1_767_225_600_000, 60_000, 3_600_000
CALM = 8 * 24
"""Hours without anything unusual."""


class _NoKeys:
    def key(self, row: int) -> bytes | None:
        return None


def batch(topic: str, values: list[bytes], offset: int) -> Batch:
    n = len(values)
    stamps = np.full(n, BEGIN + (CALM + 3) * HOUR, np.int64)
    return Batch(topic, 0, list(values), np.arange(offset, offset + n), stamps, offset + n, _NoKeys())


def events() -> tuple[list[bytes], list[bytes]]:
    """Uses and requests of two products alike; after the calm `shop` is used ten times as much, and slow."""
    rng, used, asked = np.random.default_rng(8), [], []
    for minute in range((CALM + 3) * 60):
        for k in range(2):
            at, user = BEGIN + minute * MINUTE + k * 13_000, f"u{rng.integers(0, 40)}"
            latency = 100 + int(rng.integers(0, 40))
            for product in ("shop", "twin"):
                odd = product == "shop" and minute >= CALM * 60
                common: dict[str, Any] = {"tenant": "acme", "product": product}
                for copy in range(10 if odd else 1):
                    word = {
                        "id": f"{product}-{minute}-{k}-{copy}",
                        "type": "feature.used",
                        "feature": "f",
                        "user": user,
                    }
                    used.append(json.dumps({**common, **word, "occurred_at": at + copy}).encode())
                word = {"id": f"{product}-{minute}-{k}", "type": "request.completed", "service": "api", "status": 200}
                late = {"latency_ms": latency * (20 if odd else 1), "occurred_at": at}
                asked.append(json.dumps({**common, **word, **late}).encode())
    return used, asked


def test_a_cause_in_raw_events_gives_the_commands_of_its_row_and_its_twin_stays_silent() -> None:
    catalogue = Catalogue()
    for definition in load_rulebook({p.name: p.read_text() for p in sorted((ROOT / "D").rglob("*.yaml"))}):
        catalogue.put(definition)
    meter, decide = MeterTask(0, 1, catalogue), RegistersTask(0, 1, catalogue)
    told: list[bytes] = []
    for topic, rows in zip(("events.usage", "events.performance"), events(), strict=True):
        for at in range(0, len(rows), 500):
            out = meter.step(batch(topic, rows[at : at + 500], at))
            told += [e.value for e in out if isinstance(e, Emit) and e.topic == "meter.registers" and e.value]
        told.append(encode(Clock(source=topic, partition=0, at=BEGIN + (CALM + 3) * HOUR, replaying=False)))
    commands: list[dict[str, Any]] = []
    for at, value in enumerate(told):
        out = decide.step(batch("meter.registers", [value], at))
        commands += [
            json.loads(e.value) for e in out if isinstance(e, Emit) and e.topic.startswith("commands.") and e.value
        ]
    by = Counter((c["rule"], c["product"]) for c in commands)
    assert {rule for rule, product in by if product == "shop"} == {"D1.1", "D1.2", "D1.3", "D1.4"}
    assert not [c for c in commands if c["product"] == "twin"]
    first = next(c for c in commands if c["rule"] == "D1.1")
    assert first["issued_at"] > BEGIN + CALM * HOUR and first["payload"]["direction"] == "up"
    assert first["payload"]["value"] > first["payload"]["ordinary"]["to"] > first["payload"]["expected"]
    slow = next(c for c in commands if c["rule"] == "D1.2")
    assert slow["payload"]["value_ms"] > 1_000 and slow["payload"]["expected_ms"] < 200
    assert "unusually high" in slow["text"]
