"""What DECIDE holds while one partition of METER is days behind the others: `python -m bench.lead [--events N] [--partitions N]
[--memory-mb N]`.

In one process, without Kafka: METER works a simulated log of three days, partition by partition; DECIDE is fed with all but one of
them, then with the last. Prints resident memory above what was there before, and the CPU seconds of DECIDE.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile

import numpy as np
import psutil

from app.backtest.metering import REGISTERS, Rows, Sent
from app.simulate.encode import PERFORMANCE, USAGE, Encoder
from app.simulate.order import chunks
from app.simulate.plan import Plan, standard
from core.decide.attic import Attic
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Emit
from core.meter.keys import partition_of
from core.meter.task import MeterTask
from schemas.events import ReplayMarker
from transport.segments import Segments

ROWS = 2_000
"""Of a batch of METER's."""
PIECES = 40
DAYS = 3.0


def main() -> None:
    """Feed, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--memory-mb", type=int, default=256, help="what waits beyond it goes to files")
    args = parser.parse_args()
    plan = standard(seed=1, events=args.events, users=20_000, features=40, days=DAYS)
    told = [list(_metered(rows, args.partitions, p)) for p, rows in enumerate(_logs(plan, args.partitions))]
    attic = Attic(args.memory_mb << 20, Segments(TemporaryFile))
    tasks = [RegistersTask(p, args.partitions, Catalogue(), attic=attic) for p in range(args.partitions)]
    gc.collect()
    before, cpu = _resident(), time.process_time()
    *ahead, behind = told
    for piece in range(PIECES):
        for one in ahead:
            _feed(tasks, one[piece * len(one) // PIECES : (piece + 1) * len(one) // PIECES])
    waiting = _resident() - before
    print(f"all but one of {args.partitions} partitions read, nothing judged: {waiting >> 20} MB")
    print(f"packed: {attic.held >> 20} MB in memory, {attic.stored >> 20} MB in files")
    print(f"of an hour of event time: {waiting / (DAYS * 24) / 1e6:.2f} MB")
    for piece in range(PIECES):
        _feed(tasks, behind[piece * len(behind) // PIECES : (piece + 1) * len(behind) // PIECES])
    print(f"all judged: {_resident() - before >> 20} MB, {time.process_time() - cpu:.1f} s of CPU")


def _logs(plan: Plan, partitions: int) -> list[dict[str, Rows]]:
    """The log of each partition, by topic; markers go to all."""
    found = [{t: Rows(t, p, _NONE, _NONE, [], [], {}) for t in (USAGE, PERFORMANCE)} for p in range(partitions)]
    stamps: dict[int, list[int]] = defaultdict(list)

    def put(of: Rows, key: bytes | None, value: bytes | None, at: int) -> None:
        of.keys.append(key)
        of.values.append(value)
        stamps[id(of)].append(at)

    def mark(kind: str, at: int, products: list[tuple[str, str]]) -> None:
        word = {"type": f"uptake.replay.{kind}", "id": f"{kind}-{at}", "replay": "lead", "at": at, "act": True}
        value = ReplayMarker.model_validate(word | {"products": products}).model_dump_json().encode()
        for by_topic in found:
            for of in by_topic.values():
                put(of, None, value, at)

    encoder, places = Encoder(plan), {}
    mark("begun", plan.start_ms, [(p.tenant, p.name) for p in plan.products])
    for columns in chunks(plan):
        rows = encoder.encode(columns)
        for performance, key, value, at in zip(rows.performance, rows.keys, rows.values, rows.at, strict=True):
            if key not in places:
                places[key] = partition_of(key, partitions) if key is not None else 0
            put(found[places[key]][PERFORMANCE if performance else USAGE], key, value, at)
        if len(rows):
            mark("progressed", max(rows.at), [])
    mark("progressed", plan.end_ms + plan.disorder_ms, [])
    for by_topic in found:
        for of in by_topic.values():
            of.timestamps = np.array(stamps[id(of)], np.int64)
            of.offsets = np.arange(len(of.values), dtype=np.int64)
    return found


def _metered(rows: dict[str, Rows], partitions: int, partition: int) -> Iterator[Sent]:
    """What METER tells DECIDE of a partition, its two topics in turn."""
    task = MeterTask(partition, partitions, Catalogue())
    for start in range(0, max(len(of.values) for of in rows.values()), ROWS):
        for of in rows.values():
            if start < len(of.values):
                for effect in task.step(of.cut(start, min(start + ROWS, len(of.values)))):
                    if isinstance(effect, Emit) and effect.topic == REGISTERS and effect.value is not None:
                        yield effect.topic, effect.key, effect.value, effect.partition, 0
        task.let_go()


def _feed(tasks: list[RegistersTask], some: Iterable[Sent]) -> None:
    by_task: dict[int, list[Sent]] = defaultdict(list)
    for one in some:
        by_task[one[3] if one[3] is not None else partition_of(one[1] or b"", len(tasks))].append(one)
    for number, sent in by_task.items():
        n = len(sent)
        rows = Rows(
            REGISTERS, number, np.arange(n), np.zeros(n, np.int64), [s[1] for s in sent], [s[2] for s in sent], {}
        )
        list(tasks[number].step(rows.cut(0, n)))
        tasks[number].drain()


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


_NONE = np.zeros(0, np.int64)

if __name__ == "__main__":
    main()
