"""A large state of METER, folded as METER folds it: `python -m bench.state --out FILE` writes one partition's state records.

Users use features by Zipf's law, `--a-day` times a day for `--days` days. Decoding is left out: 140 million events take half an hour
through Kafka, and what is measured is the state they leave.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from core.definitions import Catalogue
from core.meter import checkpoints
from core.meter.source import Rows
from core.meter.task import USAGE, MeterTask

DAY = 86_400_000
T0 = 1_700_006_400_000
_ROWS = 200_000


class Built(NamedTuple):
    """A task, and how many (user, feature, day) it has seen; `*` counts as a feature."""

    task: MeterTask
    pair_days: int


def build(users: int, features: int, days: int, a_day: int, partition: int = 0) -> Built:
    """Folds the uses of one partition's users, and moves its clock behind them."""
    task = MeterTask(partition, 1, Catalogue(), max_ids=1_000_000)
    source = task.usage
    rng = np.random.default_rng(partition)
    group = source.add_group("acme", "app", 600_000)
    numbers = source.users.codes([f"user-{partition}-{i:08d}" for i in range(users)])
    names = source.names.codes((f"feature-{i}" for i in range(features)), features)
    weights = np.cumsum(1 / np.arange(1, features + 1))
    pair_days = 0
    for day in range(days):
        n = users * a_day
        times = np.sort(rng.integers(0, DAY, n)) + T0 + day * DAY
        for start in range(0, n, _ROWS):
            at = times[start : start + _ROWS]
            name = names[np.searchsorted(weights, rng.random(len(at)) * weights[-1])]
            groups = np.full(len(at), group)
            columns = {
                "cell": source.cells(groups, name),
                "user": numbers[rng.integers(0, users, len(at))],
                "organic": np.ones(len(at), np.int64),
            }
            keys = rng.integers(1, 1 << 62, len(at)).astype(np.uint64)
            rows = Rows(groups, at, at - 2_000, keys, columns)
            source.fold(rows)
        newest = source.pairs.rows[: len(source.pairs), 1] & np.uint64(0xFFFF)
        pair_days += int((newest == np.uint64((T0 + day * DAY) // DAY)).sum())
    source.advance(T0 + days * DAY)
    return Built(task, pair_days)


def records(task: MeterTask) -> Iterator[tuple[bytes, bytes]]:
    """What a checkpoint of all of it writes: a base, and no deltas behind it."""
    checkpoints.MIN_DELTAS = 0  # type: ignore[misc]
    task._checkpoints.note("clock", USAGE, task.usage.clock.at)
    ended = False
    gone: set[bytes] = set()
    kept: dict[bytes, bytes] = {}
    while not ended:
        for key, value in task.drain():
            if value is None:
                gone.add(key)
                kept.pop(key, None)
            elif key.startswith(b"base"):
                yield key, value
                ended |= key.endswith(b"end")
            else:
                kept[key] = value
    for key, value in task.drain():
        if value is None:
            kept.pop(key, None)
        elif not key.startswith(b"base"):
            kept[key] = value
    yield from kept.items()


def main() -> None:
    """Writes the records, and beside them a JSON object of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, required=True, help="of this partition")
    parser.add_argument("--features", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--a-day", type=int, default=5)
    parser.add_argument("--partition", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    built = build(given.users, given.features, given.days, given.a_day, given.partition)
    encode = msgspec.msgpack.Encoder().encode
    scratch = given.out.with_suffix(".part")
    size = 0
    with scratch.open("wb") as out:
        for record in records(built.task):
            packed = encode(record)
            out.write(len(packed).to_bytes(4, "big") + packed)
            size += len(packed)
    pairs = built.task.usage.pairs
    figures = {
        "users": given.users,
        "pairs": len(pairs),
        "pair_days": built.pair_days,
        "pairs_bytes": pairs.nbytes(),
        "state_bytes": size,
    }
    given.out.with_suffix(".json").write_text(json.dumps(figures))
    scratch.rename(given.out)


if __name__ == "__main__":
    main()
