"""µs per event and stage of METER's pure hot path: synthetic values, no Kafka. `python -m bench.hotpath --help`.

CPU time; every stage is timed by wrapping the function that is it, so the figures include the stage's own overhead and exclude what
has a line of its own. Batches hold rows of one partition, as they are fetched.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from core.batch import Batch, Values
from core.definitions import Catalogue
from core.meter import pairs, plain, profiles, publish, read, read_usage, source, task, usage
from core.meter.dedupe import Seen
from core.meter.task import MeterTask

T0 = 1_700_006_400_000
STAGES: list[tuple[str, Any, str]] = [
    ("scan", plain.Scanner, "scan"),
    ("columns", read_usage.UsageReader, "_scanned_columns"),
    ("decode", read, "decode"),
    ("dedupe", Seen, "accept"),
    ("read (rest)", read.Reader, "read"),
    ("watermarks", source, "running_max"),
    ("tally", usage, "tally"),
    ("pairs", pairs.Pairs, "fold"),
    ("profiles", profiles.Profiles, "fold"),
    ("late", source.Source, "_deal"),
    ("close", source.Source, "_close"),
    ("fold (rest)", source.Source, "fold"),
    ("publish", publish, "registers"),
    ("drain", task.MeterTask, "drain"),
    ("step (rest)", task.MeterTask, "step"),
]


class Keys:
    def key(self, row: int) -> bytes | None:
        return b"acme|u1"


def values(
    n: int, users: int, features: int, rate: float, seed: int, start: int
) -> tuple[list[bytes | None], np.ndarray]:
    """Usage events of 230 bytes; users and features by Zipf, `rate` events of this partition a second."""
    rng = np.random.default_rng(seed)
    who = np.minimum(rng.zipf(1.2, n) * 7919 + rng.integers(0, users, n), 1 << 40) % users
    what = (rng.zipf(1.3, n) - 1 + rng.integers(0, features, n) // 4) % features
    at = T0 + ((start + np.arange(n)) * 1000 / rate).astype(np.int64)
    jitter = rng.integers(-1500, 1, n)
    out: list[bytes | None] = [
        (
            f'{{"id":"e-{start + i:x}-{seed:x}","tenant":"acme","product":"app","type":"feature.used","feature":"feature-{f}",'
            f'"user":"user-{u}","account":"account-{u % 997}","occurred_at":{t},'
            f'"properties":{{"plan":"pro","device":"ios","n":{i % 7}}}}}'
        ).encode()
        for i, (u, f, t) in enumerate(zip(who.tolist(), what.tolist(), (at + jitter).tolist(), strict=True))
    ]
    return out, at


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Own time of every stage while inside, in seconds."""
    spent: dict[str, float] = defaultdict(float)
    stack: list[float] = []
    undo: list[Callable[[], None]] = []
    clock = time.process_time

    def wrap(name: str, owner: Any, attribute: str) -> None:
        inner = getattr(owner, attribute)

        def outer(*args: Any, **kwargs: Any) -> Any:
            stack.append(0.0)
            start = clock()
            result = inner(*args, **kwargs)
            if hasattr(result, "__next__"):
                result = list(result)
            took = clock() - start
            spent[name] += took - stack.pop()
            if stack:
                stack[-1] += took
            return result

        setattr(owner, attribute, outer)
        undo.append(lambda: setattr(owner, attribute, inner))

    for stage in STAGES:
        wrap(*stage)
    try:
        yield spent
    finally:
        for back in undo:
            back()


def run(size: int, events: int, users: int, features: int, rate: float, warm: int) -> dict[str, float]:
    """Stage → µs an event."""
    meter = MeterTask(0, 1, Catalogue())
    offset = 0
    spent: dict[str, float] = {}
    for rows, measure in ((warm, False), (events, True)):
        with timed() as stages:
            done = 0
            while done < rows:
                n = min(1 << 17, rows - done) // size * size or size
                made, at = values(n, users, features, rate, random.Random(offset).getrandbits(32), offset)
                before = dict(stages)
                for i in range(0, n, size):
                    part = slice(i, i + size)
                    count = len(made[part])
                    packed = Values.of(made[part])
                    batch = Batch("events.usage", 0, packed, np.arange(count), at[part], offset + i + count, Keys())
                    list(meter.step(batch))
                    if offset // 50_000 != (offset + i) // 50_000 or size >= 16_000:
                        meter.drain()
                del before
                meter.drain()
                done += n
                offset += n
        if measure:
            spent = {name: s / done * 1e6 for name, s in stages.items()}
    spent["total"] = sum(spent.values())
    return spent


def main() -> None:
    """Prints a table; with --json, writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--warm", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=40)
    parser.add_argument("--rate", type=float, default=20_000.0, help="events a second of event time in this partition")
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 1_000, 16_000, 50_000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = {
        size: run(size, options.events, options.users, options.features, options.rate, options.warm)
        for size in options.sizes
    }
    names = [*(name for name, _, _ in STAGES), "total"]
    print("µs per event".ljust(14), *(f"{size:>8}" for size in table))
    for name in names:
        print(name.ljust(14), *(f"{row.get(name, 0.0):8.3f}" for row in table.values()))
    if options.json:
        options.json.write_text(json.dumps({str(k): v for k, v in table.items()}, indent=1))


if __name__ == "__main__":
    main()
