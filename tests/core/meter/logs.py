"""Logs for METER's tests: rows as values, batches of them, and the figures a task has published about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from core.batch import Batch, Headers
from core.effects import Count, DeadLetter, Effect, Emit
from schemas.registers import Clock, Registers, decode

T0 = 1_700_006_400_000
"""A midnight, UTC."""
USAGE, PERFORMANCE = "events.usage", "events.performance"


@dataclass(frozen=True)
class Record:
    """One record of an events topic."""

    value: bytes | None
    at: int
    """Broker time."""
    key: bytes = b"acme|u0"
    headers: Headers = ()


class Keys:
    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def key(self, row: int) -> bytes | None:
        return self._records[row].key


def batch(records: Sequence[Record], topic: str = USAGE, offset: int = 0, partition: int = 0) -> Batch:
    return Batch(
        topic=topic,
        partition=partition,
        values=[r.value for r in records],
        offsets=np.arange(offset, offset + len(records)),
        timestamps=np.array([r.at for r in records], np.int64),
        next_offset=offset + len(records),
        rows=Keys(records),
        headed={i: r.headers for i, r in enumerate(records) if r.headers},
    )


def batches(records: Sequence[Record], cuts: Iterable[int], topic: str = USAGE) -> list[Batch]:
    bounds = sorted({0, len(records), *(c % (len(records) + 1) for c in cuts)})
    return [batch(records[i:j], topic, i) for i, j in pairwise(bounds) if j > i]


def usage(
    id: str,
    at: int,
    user: str = "u1",
    feature: str | None = "f1",
    *,
    tenant: str = "acme",
    product: str = "app",
    attribution: str | None = None,
    broker: int | None = None,
    **extra: Any,
) -> Record:
    body: dict[str, Any] = {
        "id": id,
        "tenant": tenant,
        "product": product,
        "type": "page.viewed" if feature is None else "feature.used",
        "user": user,
        "occurred_at": at,
        **extra,
    }
    if feature is not None:
        body["feature"] = feature
    if attribution is not None:
        body["attribution"] = attribution
    return Record(json.dumps(body).encode(), at if broker is None else broker, f"{tenant}|{user}".encode())


def request(
    id: str, at: int, latency_ms: float = 10.0, service: str | None = "api", broker: int | None = None, **extra: Any
) -> Record:
    body: dict[str, Any] = {
        "id": id,
        "tenant": "acme",
        "product": "app",
        "type": "request.completed",
        "latency_ms": latency_ms,
        "occurred_at": at,
        **extra,
    }
    if service is not None:
        body["service"] = service
    return Record(json.dumps(body).encode(), at if broker is None else broker, f"acme|{service}".encode())


def marker(
    kind: str, at: int, broker: int, replay: str = "r1", act: bool = False, products: Sequence[str] = ()
) -> Record:
    body: dict[str, Any] = {"type": f"uptake.replay.{kind}", "id": f"{replay}-{kind}-{at}", "replay": replay, "at": at}
    body |= {"act": act, "products": [("acme", product) for product in products]}
    return Record(json.dumps(body).encode(), broker, b"m")


@dataclass
class Published:
    """What a task told, put together as a reader would."""

    columns: dict[str, list[str]] = field(default_factory=dict)
    patches: dict[tuple[str, str, str], list[tuple[int, int, dict[str, tuple[int, ...]]]]] = field(default_factory=dict)
    """(topic, product, window) → [(end, version, name → figures)] in order."""
    clocks: dict[tuple[str, str], int] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    counts: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    signals: list[Emit] = field(default_factory=list)
    acts: list[bool] = field(default_factory=list)
    replays: dict[tuple[str, str], bool] = field(default_factory=dict)

    def take(self, effects: Iterable[Effect]) -> Published:
        for effect in effects:
            if isinstance(effect, DeadLetter):
                self.dead.append(effect)
            elif isinstance(effect, Count):
                at = effect.metric, effect.labels
                self.counts[at] = self.counts.get(at, 0) + effect.n
            elif isinstance(effect, Emit) and effect.topic == "signals":
                self.signals.append(effect)
            elif isinstance(effect, Emit):
                assert effect.value is not None and len(effect.value) < 900_000
                record = decode(effect.value)
                if isinstance(record, Clock):
                    assert record.at >= self.shared.get(record.source, -1)
                    self.shared[record.source] = record.at
                else:
                    self._registers(record)
        return self

    def _registers(self, r: Registers) -> None:
        product = f"{r.tenant}|{r.product}"
        self.columns[r.source] = r.columns
        self.acts.append(r.act)
        assert self.replays.setdefault((r.source, product), r.replay) == r.replay, "a constant of the product's birth"
        before = self.clocks.get((r.source, product), -1)
        for patch in r.patches:
            cells = np.frombuffer(patch.cells, "<i8")
            values = np.array([np.frombuffer(c, "<i8") for c in patch.columns])
            figures = {r.names[c]: tuple(values[:, i].tolist()) for i, c in enumerate(cells.tolist())}
            assert len(figures) == len(cells)
            if patch.version == 0:
                assert patch.end > before, "version 0 of an end that was told to be closed"
            self.patches.setdefault((r.source, product, patch.window), []).append((patch.end, patch.version, figures))
        self.clocks[r.source, product] = max(before, r.clock)

    def version_0(self, topic: str, product: str, window: str, name: str, end: int) -> tuple[int, ...]:
        figures: tuple[int, ...] = (0,) * len(self.columns.get(topic, ["users", "events", "organic"]))
        newest = -1
        for at, version, cells in self.patches.get((topic, product, window), []):
            if version == 0:
                assert at >= newest, "version 0 leaves in order of its ends"
                newest = at
                if at <= end and name in cells:
                    figures = cells[name]
        return figures

    def newest(self, topic: str, product: str, window: str, name: str, end: int) -> tuple[int, ...]:
        figures = self.version_0(topic, product, window, name, end)
        for at, version, cells in self.patches.get((topic, product, window), []):
            if version and at == end and name in cells:
                figures = cells[name]
        return figures
