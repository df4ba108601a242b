"""Memory and recovery of METER's state, pure: `python -m bench.recovery --users 100000 --features 4000 --days 28`.

Folds synthetic uses of one partition (5 a user-day, features by Zipf), writes a base and the deltas behind it, drops the task and
builds it again from the records. Prints bytes a user, a pair and a (user, feature, day), and seconds.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from core.definitions import Catalogue
from core.meter import checkpoints
from core.meter.source import Rows
from core.meter.task import USAGE, MeterTask
from core.task import StateRecord

DAY = 86_400_000
T0 = 1_700_006_400_000


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--a-day", type=int, default=5)
    options = parser.parse_args()
    meter = MeterTask(0, 1, Catalogue(), max_ids=1_000_000)
    source = meter.usage
    rng = np.random.default_rng(1)
    group = source.add_group("acme", "app", 600_000)
    users = source.users.codes((f"user-{i:08d}" for i in range(options.users)), options.users)
    names = source.names.codes((f"feature-{i}" for i in range(options.features)), options.features)
    weights = 1 / np.arange(1, options.features + 1)
    weights /= weights.sum()
    pair_days = 0
    for day in range(options.days):
        n = options.users * options.a_day
        time_of = np.sort(rng.integers(0, DAY, n)) + T0 + day * DAY
        for i in range(0, n, 100_000):
            at = time_of[i : i + 100_000]
            name = names[rng.choice(options.features, len(at), p=weights)]
            groups = np.full(len(at), group)
            user = users[rng.integers(0, options.users, len(at))]
            cell = source.cells(groups, name)
            key = rng.integers(1, 1 << 62, len(at)).astype(np.uint64)
            rows = Rows(
                groups, at, at - 2_000, key, {"cell": cell, "user": user, "organic": np.ones(len(at), np.int64)}
            )
            source.fold(rows)
        last = source.pairs.rows[: len(source.pairs), 1] & np.uint64(0xFFFF)
        pair_days += int((last == np.uint64((T0 + day * DAY) // DAY)).sum())
    pairs = len(source.pairs)
    memory = source.pairs.nbytes()
    store: dict[bytes, bytes] = {}
    checkpoints.MIN_DELTAS = 0  # type: ignore[misc]
    meter._checkpoints.note("clock", USAGE, T0)

    def write(records: list[StateRecord]) -> None:
        for record_key, value in records:
            if value is None:
                store.pop(record_key, None)
            else:
                store[record_key] = value

    start = time.perf_counter()
    write(meter.drain())
    stall = time.perf_counter() - start
    while not any(k.endswith(b"end") for k in store):
        write(meter.drain())
    wrote = time.perf_counter() - start
    size = sum(map(len, store.values()))
    again = MeterTask(0, 1, Catalogue())
    start = time.perf_counter()
    for record_key, record in store.items():
        again.load(record_key, record)
    again.loaded()
    took = time.perf_counter() - start
    assert len(again.usage.pairs) == pairs
    print(
        json.dumps(
            {
                "users": options.users,
                "pairs": pairs,
                "pair_days": pair_days,
                "state_mb": round(size / 1e6, 1),
                "pairs_mb": round(memory / 1e6, 1),
                "profiles_mb": round(source.profiles.nbytes() / 1e6, 1),
                "bytes_a_pair": round(memory / pairs, 1),
                "bytes_a_pair_beyond_8_a_pair_day": round((memory - 8 * pair_days) / pairs, 1),
                "longest_drain_s": round(stall, 3),
                "base_written_s": round(wrote, 3),
                "recovered_s": round(took, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
