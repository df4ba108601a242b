"""METER's cost where batches are small: rows of six products, a tenth late, as three days of event time in half an hour bring them.

`python -m bench.steps` prints CPU milliseconds of a batch, and CPU seconds of recovering what `--pieces` half seconds left behind.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from app.simulate.encode import Encoder
from app.simulate.order import chunks
from app.simulate.plan import Plan, standard
from core.batch import Batch
from core.definitions import Catalogue
from core.meter.keys import partition_of
from core.meter.task import PERFORMANCE, USAGE, MeterTask

PARTITIONS = 6
PIECE = 3_000
"""Rows of all partitions together: half a second at 6,000 a second."""
NOW = 1_800_000_000_000


class Keys:
    """The rows' keys."""

    def __init__(self, keys: list[bytes | None]) -> None:
        self._keys = keys

    def key(self, row: int) -> bytes | None:
        """The row's Kafka key."""
        return self._keys[row]


def batches(plan: Plan, pieces: int) -> Iterator[Batch]:
    """Batches of partition 0, as half seconds of the log are read."""
    encoder, offsets, now = Encoder(plan), {USAGE: 0, PERFORMANCE: 0}, NOW
    for columns in chunks(plan):
        for start in range(0, len(columns), PIECE):
            made = encoder.encode(columns.take(np.arange(start, min(start + PIECE, len(columns)))))
            now += 500
            pieces -= 1
            for topic in offsets:
                mine = [
                    i
                    for i, key in enumerate(made.keys)
                    if made.performance[i] == (topic == PERFORMANCE) and key and not partition_of(key, PARTITIONS)
                ]
                first, n = offsets[topic], len(mine)
                offsets[topic] += n
                yield Batch(
                    topic,
                    0,
                    [made.values[i] for i in mine],
                    np.arange(first, first + n),
                    np.full(n, now),
                    first + n,
                    Keys([made.keys[i] for i in mine]),
                    headed={at: made.headers[i] for at, i in enumerate(mine) if made.headers[i]},
                )
            if not pieces:
                return


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=300)
    pieces = parser.parse_args().pieces
    plan = standard(
        events=10_800_000,
        users=20_000,
        features=12,
        tenants=("acme", "globex", "initech"),
        products=("studio", "portal"),
    )
    log = list(batches(plan, pieces))
    task, state = MeterTask(0, PARTITIONS, Catalogue()), dict[bytes, bytes]()
    for source in (task.usage, task.performance):
        source.clock.mark("begun", "bench", False, NOW)  # no idle clock closes what is to come
    began = time.process_time()
    for i, batch in enumerate(log):
        list(task.step(batch))
        if i % 4 == 3:
            list(task.tick(int(batch.timestamps[-1]), ((USAGE, 0), (PERFORMANCE, 0))))
            for key, value in task.drain():
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
    spent = time.process_time() - began
    print(f"{len(log)} batches of {sum(map(len, log)) // len(log)} rows: {spent / len(log) * 1e3:.1f} ms each")
    again = MeterTask(0, PARTITIONS, Catalogue())
    began = time.process_time()
    for key, value in state.items():
        again.load(key, value)
    again.loaded()
    size = sum(map(len, state.values())) / 1e6
    print(f"recovered from {size:.1f} MB in {time.process_time() - began:.2f} s")


if __name__ == "__main__":
    main()
