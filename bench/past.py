"""A month of a product as archive files: what the role `archive` would have kept of it, written in a minute.

Rows come when they happened (broker time is arrival), so METER's partitions fall silent between them and record their clocks, of
which the archive keeps one for every 10 s and source: those are here too. Shop, people and messages are beside usage and requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.archive.files import pack
from app.simulate.encode import PERFORMANCE, USAGE, Encoder, user
from app.simulate.order import chunks
from app.simulate.plan import DAY_MS, Dirt, Plan, standard
from core.archive import REGISTERS, STEP_MS, Chunk
from core.meter.clocks import DISORDER_MS
from core.meter.keys import partition_of
from schemas.definitions import Definition, head_key
from schemas.registers import SOURCES, Clock, encode

ROWS_A_FILE: Final = 200_000
OTHERS_SHARE: Final = 0.01
"""Of all events, those of shop, people and messages."""
_DIRT: Final = Dirt(duplicates=0.01, malformed=0.001, disordered=0.02, rfc3339=0.2, cloudevents=0.02, huge=0)
Record = tuple[str, bytes, bytes, int]
"""Topic, key, value, when it occurred."""


def month(events: int, days: float, seed: int = 1) -> Plan:
    """Two tenants with two products each, 40 features a product, one user for every 500 events."""
    made = standard(
        seed=seed, events=int(events * (1 - OTHERS_SHARE)), users=max(200, events // 500), days=days, dirt=_DIRT
    )
    return made


def beside(plan: Plan, count: int) -> Iterator[Record]:
    """Carts, purchases, contacts and opened messages, in order of time: `count` rows of the plan's time and people."""
    rng = np.random.default_rng([plan.seed, 7])
    at = np.sort(rng.integers(plan.start_ms, plan.end_ms, count))
    picked = rng.integers(0, len(plan.products), count)
    kinds = rng.choice(len(_KINDS), count, p=[0.35, 0.2, 0.15, 0.1, 0.2])
    amounts = (rng.gamma(2.0, 60.0, count) * 100).astype(np.int64) / 100
    for n, (when, which, kind, amount, share) in enumerate(
        zip(at.tolist(), picked.tolist(), kinds.tolist(), amounts.tolist(), rng.random(count).tolist(), strict=True)
    ):
        product = plan.products[which]
        who = user(int(share * share * product.users))
        topic, body = _KINDS[kind](who, f"cart-{who}-{when // (2 * DAY_MS)}", amount)
        word = {"id": f"o{n:x}", "tenant": product.tenant, "product": product.name, "occurred_at": when, **body}
        yield topic, f"{product.tenant}|{who}".encode(), json.dumps(word).encode(), when


def _cart(who: str, cart: str, amount: float) -> tuple[str, dict[str, Any]]:
    return "events.commerce", {"type": "cart.created", "user": who, "cart": cart, "amount": amount}


def _bought(who: str, cart: str, amount: float) -> tuple[str, dict[str, Any]]:
    return "events.commerce", {"type": "purchase.completed", "user": who, "cart": cart, "amount": amount}


def _updated(who: str, cart: str, amount: float) -> tuple[str, dict[str, Any]]:
    plan = ("free", "pro", "team")[int(amount) % 3]
    return "events.contacts", {"type": "contact.updated", "contact": who, "fields": {"plan": plan}, "score": amount}


def _stage(who: str, cart: str, amount: float) -> tuple[str, dict[str, Any]]:
    stage = ("lead", "customer", "dormant")[int(amount) % 3]
    body = {"type": "contact.stage_changed", "contact": who, "stage": stage, "time_zone": "Europe/Paris"}
    return "events.contacts", body


def _opened(who: str, cart: str, amount: float) -> tuple[str, dict[str, Any]]:
    return "events.engagement", {"type": "message.opened", "contact": who, "message": f"m{int(amount)}"}


_KINDS: Final = (_cart, _bought, _updated, _stage, _opened)


class Files:
    """Open chunks, written as files when they are large."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[tuple[str, int], Chunk] = {}
        self._next: dict[tuple[str, int], int] = {}

    def add(
        self, topic: str, partition: int, at: int, key: bytes | None, value: bytes | None, headers: Any = ()
    ) -> None:
        """Append a row to a partition."""
        place = (topic, partition)
        chunk = self._open.get(place)
        if chunk is None:
            chunk = self._open[place] = Chunk(topic, partition)
        offset = self._next.get(place, 0)
        self._next[place] = offset + 1
        chunk.add(offset, at, key, value, headers)
        if len(chunk) >= ROWS_A_FILE:
            self._write(self._open.pop(place))

    def close(self) -> None:
        """Write what is open."""
        for chunk in self._open.values():
            self._write(chunk)
        self._open.clear()

    def _write(self, chunk: Chunk) -> None:
        path = self._folder / chunk.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(chunk))


def write(folder: Path, plan: Plan, partitions: int, published: Sequence[tuple[int, Definition]]) -> int:
    """The plan's rows, those beside them, METER's clocks and the definitions, each published at its time; how many events."""
    files, places = Files(folder), dict[bytes | None, int]()
    encoder, rows = Encoder(plan), 0

    def place(key: bytes | None) -> int:
        found = places.get(key)
        if found is None:
            found = places[key] = partition_of(key, partitions) if key is not None else 0
        return found

    for columns in chunks(plan):
        made = encoder.encode(columns)
        for arrival, performance, key, value, headers in zip(
            columns.arrival.tolist(), made.performance, made.keys, made.values, made.headers, strict=True
        ):
            files.add(PERFORMANCE if performance else USAGE, place(key), arrival, key, value, headers)
        rows += len(made)
    count = int(rows * OTHERS_SHARE / (1 - OTHERS_SHARE))
    for topic, key, value, at in beside(plan, count):
        files.add(topic, place(key), at + 50, key, value)
    for at in range(plan.start_ms + STEP_MS, plan.end_ms + 2 * 3_600_000, STEP_MS):
        for source in SOURCES:
            for partition in range(partitions):
                clock = Clock(source=source, partition=partition, at=at, replaying=False)
                files.add(REGISTERS, 0, at + DISORDER_MS + 137 * partition % 400, None, encode(clock))
    for at, definition in sorted(published, key=lambda p: p[0]):
        files.add("definitions", 0, at, head_key(definition), definition.model_dump_json().encode())
    files.close()
    return rows + count
