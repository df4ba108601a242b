"""History sent to a running system: METER's word and DECIDE's together give what an empty system would have given."""

from __future__ import annotations

import json
import random

import pytest

from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.meter.task import MeterTask
from schemas.definitions import Product
from tests.core.decide.test_registers import Outcome, batch
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Record, batches, marker, usage

NOW = T0 + 20 * 86_400_000
CFG = Product(tenant="acme", name="app", stage_window="1h", min_target_users=2, viral_min_adopters=1)


def history(seed: int) -> dict[tuple[str, int], list[Record]]:
    """Forty rows of a day long gone in two partitions, between markers in all of them."""
    rng = random.Random(seed)
    logs: dict[tuple[str, int], list[Record]] = {(topic, p): [] for topic in (USAGE, PERFORMANCE) for p in (0, 1)}

    def mark(kind: str, at: int, *products: str) -> None:
        for log in logs.values():
            log.append(marker(kind, at, NOW, products=products))

    mark("begun", T0 - 2_000, "app")
    at = newest = T0
    for i in range(40):
        at += rng.choice((0, 1_000, 20_000, 400_000, 3_000_000))
        occurred, user = at - rng.choice((0, 0, 1_500)), rng.randrange(5)
        logs[USAGE, user % 2].append(usage(f"e{i}", occurred, f"u{user}", rng.choice(("f", "g", None)), broker=NOW))
        newest = max(newest, occurred)
        if rng.random() < 0.2:
            mark("progressed", newest)
    mark("progressed", newest)
    mark("ended", newest)
    return logs


def sent(logs: dict[tuple[str, int], list[Record]], order: int, *, running: bool) -> Outcome:
    """The log through both steps, cut and interleaved in some order; `running`: idle clocks stand at today already."""
    rng = random.Random(order)
    queues: list[list[bytes]] = []
    for partition in (0, 1):
        task, both = MeterTask(partition, 1, Catalogue()), [(USAGE, partition), (PERFORMANCE, partition)]
        effects: list[Effect] = list(task.tick(NOW, both)) if running else []
        for topic in (USAGE, PERFORMANCE):
            for one in batches(logs[topic, partition], [rng.randrange(99) for _ in range(rng.randrange(8))], topic):
                effects += task.step(one)
        effects += task.tick(NOW + 60_000, both)
        queues.append([e.value for e in effects if isinstance(e, Emit) and e.topic == "meter.registers" and e.value])
    told: list[bytes] = []
    while any(queues):
        queue, n = rng.choice([q for q in queues if q]), rng.choice((1, 1, 5, 50))
        told += queue[:n]
        del queue[:n]
    catalogue = Catalogue()
    catalogue.put(CFG)
    task_of_registers, out = RegistersTask(0, 2, catalogue), Outcome()
    for start in range(0, len(told), 7):
        out.take(list(task_of_registers.step(batch(told[start : start + 7], start))))
    return out


@pytest.mark.parametrize("seed", range(12))
def test_a_running_system_folds_the_history_of_a_new_product_like_an_empty_one(seed: int) -> None:
    logs = history(seed)
    empty = sent(logs, 0, running=False)
    assert empty.lists["detections"] and empty.rows()
    for order in (1, 2):
        running = sent(logs, order, running=True)
        assert running.ids("detections") == empty.ids("detections")
        assert running.rows() == empty.rows()


def test_without_its_name_in_the_marker_nothing_of_it_is_on_time() -> None:
    logs = history(1)
    for log in logs.values():
        body = json.loads(log[0].value or b"") | {"products": []}
        log[0] = Record(json.dumps(body).encode(), NOW)
    hours = [row for row in sent(logs, 1, running=True).tables.values() if row.get("window") == "1h"]
    assert not any(row["users"] for row in hours)
    assert any(row["users"] for row in sent(history(1), 1, running=True).tables.values() if row.get("window") == "1h")
