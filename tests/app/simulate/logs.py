"""A simulation folded by the oracle without a broker."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable

from app.oracle.figures import Figures
from app.oracle.judged import Judge
from app.oracle.partition import Partition
from app.simulate.encode import Encoded
from app.simulate.plan import DAY_MS, Plan


def judge(plan: Plan, rows: Iterable[Encoded], partitions: int = 3) -> tuple[Judge, list[Partition]]:
    """Rows placed by key, then a marker that closes everything."""
    made = {(p, n): Partition(p, n) for p in (False, True) for n in range(partitions)}
    broker = plan.end_ms + DAY_MS
    for chunk in rows:
        for performance, key, value, headers in zip(
            chunk.performance, chunk.keys, chunk.values, chunk.headers, strict=True
        ):
            made[performance, zlib.crc32(key or b"") % partitions].add(value, headers, broker)
    last = {"type": "uptake.replay.progressed", "id": "m", "replay": "r", "at": plan.end_ms + plan.disorder_ms}
    for part in made.values():
        part.add(json.dumps(last).encode(), [], broker)
    return Judge(Figures([part.folded() for part in made.values()])), list(made.values())
