"""A tiny role for tests: counts rows by value in checkpointed state, and puts every row out once. Runs alone as a process:

python -m tests.transport.counting '{"bootstrap": …, "prefix": …, "data_dir": …, "partitions": …}'
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.batch import Batch
from core.effects import NOTHING, Effect, Emit
from core.task import StateRecord, Task, TaskSpec
from transport.app import RoleApp, make_app
from transport.metrics import Unmetered
from transport.options import Options
from transport.wires import KafkaWires


class CountingTask:
    """State: how often each value came. Output: each value, unless `quiet`."""

    def __init__(self, partition: int, *, quiet: bool = False) -> None:
        self.partition = partition
        self.counts: Counter[bytes] = Counter()
        self.changed: set[bytes] = set()
        self.quiet = quiet
        self.loads = 0
        self.ticks: list[tuple[int, Sequence[tuple[str, int]]]] = []
        self.rows = 0

    def load(self, key: bytes, value: bytes | None) -> None:
        self.loads += 1
        if value is None:
            self.counts.pop(key, None)
        else:
            self.counts[key] = int(value)

    def loaded(self) -> None:
        pass

    def step(self, batch: Batch) -> Iterable[Effect]:
        self.rows += len(batch)
        values = [value or b"" for value in batch.values]
        self.counts.update(values)
        self.changed.update(values)
        return NOTHING if self.quiet else [Emit("out", b"k", value, self.partition) for value in values]

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        self.ticks.append((now, caught_up))
        return NOTHING

    def wake_at(self) -> int | None:
        return None

    def drain(self) -> list[StateRecord]:
        changed, self.changed = self.changed, set()
        return [(value, str(self.counts[value]).encode()) for value in changed]


def spec(topics: tuple[str, ...] = ("in",), make: Any = CountingTask) -> TaskSpec:
    return TaskSpec("counter", "counting", topics, make, "state.counter")


def build(options: Options, made: TaskSpec | None = None, metrics: Any = None) -> tuple[RoleApp, KafkaWires]:
    metrics = metrics or Unmetered()
    app = make_app(options, metrics)
    wires = KafkaWires(app, options, metrics)

    @app.agent(wires.channel(app, made or spec()), name="counter")
    async def counter(stream: Any) -> None:
        task: Task
        async for task, batch in wires.batches(stream):
            await wires.work(task, batch)

    return app, wires


async def serve(options: Options) -> None:
    app, _ = build(options)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await app.start()
    print("started", flush=True)
    await stop.wait()
    await app.stop()


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s")
    given = json.loads(sys.argv[1])
    folder = Path(given.pop("data_dir"))
    asyncio.run(serve(Options(role="counter", data_dir=folder, phases=folder / "phases", **given)))
