"""The figures of docs/semantics.md §1-§3 by definition, one window end and one row at a time. Imports nothing of the fold."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.core.meter.logs import Record

WINDOWS = {
    "5m": (300_000, 10_000),
    "1h": (3_600_000, 60_000),
    "1d": (86_400_000, 3_600_000),
    "7d": (7 * 86_400_000, 86_400_000),
    "28d": (28 * 86_400_000, 86_400_000),
}
DISORDER, GRACE = 2_000, 600_000


@dataclass
class Seen:
    product: str
    at: int
    user: str
    feature: str | None
    organic: bool
    w: int
    body: dict[str, object]


def read(records: Sequence[Record], duplicates: list[str] | None = None) -> tuple[list[Seen], dict[str, int], int]:
    """Accepted rows with the watermark at which each arrived; the watermarks at the end; the partition's clock."""
    rows: list[Seen] = []
    own: dict[str, int] = defaultdict(int)
    clock = seen_clock = -(10**15)
    open_replays: set[str] = set()
    held: dict[str, int] = {}
    generations: list[set[str]] = [set(), set()]
    for record in records:
        body = json.loads(record.value or b"null")
        if str(body["type"]).startswith("uptake.replay."):
            at = body["at"] - DISORDER
            if body["type"].endswith("progressed"):
                clock = max(clock, at)
                held = {p: max(w, at) for p, w in held.items()}
            elif body["type"].endswith("begun"):
                open_replays.add(body["replay"])
                new = [p for p in ("|".join(pair) for pair in body["products"]) if p not in own]
                held |= {p: max(at, 0) for p in new}
                own |= {p: 0 for p in new}
            else:
                open_replays.discard(body["replay"])
            if not open_replays:
                own |= {p: max(own[p], w) for p, w in held.items()}
                held.clear()
            continue
        capped = min(body["occurred_at"], record.at + 5_000)
        if capped > seen_clock:
            turns = capped // 600_000 - seen_clock // 600_000 if seen_clock > -(10**14) else 0
            for _ in range(min(turns, 2)):
                generations = [set(), generations[0]]
            seen_clock = capped
        identity = f"{body['tenant']}|{body['id']}"
        if any(identity in g for g in generations):
            if duplicates is not None:
                duplicates.append(identity)
            continue
        generations[0].add(identity)
        product = f"{body['tenant']}|{body['product']}"
        own[product] = max(own[product], capped - DISORDER)
        rows.append(
            Seen(
                product,
                body["occurred_at"],
                body.get("user", ""),
                body.get("feature") if body["type"] == "feature.used" else None,
                body.get("attribution") in (None, "organic"),
                max(own[product], held.get(product, clock)),
                body,
            )
        )
    return rows, {p: max(w, held.get(p, clock)) for p, w in own.items()}, clock


def figures(
    rows: Sequence[Seen], product: str, window: str, name: str, end: int, *, late: bool
) -> tuple[int, int, int]:
    """users, events, organic of one cell at one end: version 0, or with everything within grace."""
    length, _ = WINDOWS[window]
    grace = GRACE if late else 0
    uses = [r for r in rows if r.product == product and (name == "*" or r.feature == name) and r.w - grace < end]
    first: dict[str, tuple[int, bool]] = {}
    for r in uses:
        first[r.user] = min(first.get(r.user, (r.at, r.organic)), (r.at, r.organic))
    inside = [r for r in uses if end - length <= r.at < end]
    users = {r.user for r in inside}
    return len(users), len(inside), sum(first[u][1] for u in users)


def ends(rows: Sequence[Seen], product: str, window: str, upto: int) -> list[int]:
    """Ends at which anything can change, and their neighbours; between them figures stand still."""
    length, step = WINDOWS[window]
    out: set[int] = set()
    for r in rows:
        if r.product == product:
            for edge in (r.at // step + 1, (r.at + length) // step + 1, r.w // step + 1, (r.w - GRACE) // step + 1):
                out.update((edge - 1, edge, edge + 1))
    return sorted(e * step for e in out if 0 < e * step <= upto)
