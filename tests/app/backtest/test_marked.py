"""Recorded clocks between the rows of a batch: the same to METER as telling it each at its time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random

import numpy as np
import pytest

from app.backtest.metering import marked
from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.meter.clocks import DISORDER_MS
from core.meter.task import MAX_ROWS, MeterTask
from schemas.registers import Registers, decode
from tests.app.backtest.live import Record, batch

T0 = 1_740_960_000_000


def rows(random: Random, count: int) -> list[Record]:
    """Uses in the order of arrival, some of them behind a clock that was told before."""
    found: list[Record] = []
    at = T0
    for n in range(count):
        at += random.choice([0, 10, 4_000, 30_000])
        body = {
            "id": f"e{n}",
            "tenant": "acme",
            "product": "shop",
            "type": "feature.used",
            "user": f"u{random.randrange(9)}",
            "feature": random.choice("ab"),
            "occurred_at": at - random.choice([0, 500, 9_000]),
        }
        found.append((at, b"acme|u", json.dumps(body).encode()))
    return found


def figures(effects: Iterable[Effect]) -> dict[tuple[str, int], dict[str, tuple[int, ...]]]:
    """(window, end) → cell → figures."""
    found: dict[tuple[str, int], dict[str, tuple[int, ...]]] = {}
    for effect in effects:
        if not isinstance(effect, Emit) or effect.topic != "meter.registers" or effect.value is None:
            continue
        record = decode(effect.value)
        for patch in record.patches if isinstance(record, Registers) else ():
            if patch.version:
                continue
            cells = np.frombuffer(patch.cells, "<i8").tolist()
            columns = [np.frombuffer(c, "<i8").tolist() for c in patch.columns]
            into = found.setdefault((patch.window, patch.end), {})
            for i, cell in enumerate(cells):
                into[record.names[cell]] = tuple(column[i] for column in columns)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_clocks_between_rows_are_clocks_told_one_by_one(seed: int) -> None:
    random = Random(seed)
    records = rows(random, 120)
    end = records[-1][0]
    clocks = [(told, told - 2_000 - random.randint(0, 300)) for told in range(T0 + 5_000, end, 10_000)]
    one, other = MeterTask(0, 1, Catalogue()), MeterTask(0, 1, Catalogue())

    told = list(other.step(marked(batch("events.usage", 0, records, 0), np.array(clocks))))

    singly: list[Effect] = []
    start = 0
    for when, at in clocks:
        stop = sum(r[0] < when for r in records)
        if stop > start:
            singly += list(one.step(batch("events.usage", 0, records[start:stop], start)))
            start = stop
        singly += list(one.tick(at + DISORDER_MS, [("events.usage", 0)]))
    if start < len(records):
        singly += list(one.step(batch("events.usage", 0, records[start:], start)))
    assert figures(told) == figures(singly) != {}
    assert one.usage.watermark.tolist() == other.usage.watermark.tolist()
    assert one.usage.clock.at == other.usage.clock.at


def test_without_clocks_a_batch_is_as_it_was() -> None:
    plain: Batch = batch("events.usage", 0, rows(Random(1), 3), 0)
    assert marked(plain, np.zeros((0, 2), np.int64)) is plain


def test_clocks_of_a_batch_that_is_folded_in_parts_are_told_in_each() -> None:
    records = rows(Random(2), 40)
    again = [records[0]] * MAX_ROWS  # known already: they fill the first part
    log = [*records[:20], *((records[19][0], key, value) for _, key, value in again), *records[20:]]
    clocks = np.array([(told, told - 2_000) for told in range(T0 + 5_000, log[-1][0], 10_000)])
    one, other = MeterTask(0, 1, Catalogue()), MeterTask(0, 1, Catalogue())
    parts = list(one.step(marked(batch("events.usage", 0, log, 0), clocks)))
    whole = list(other.step(marked(batch("events.usage", 0, records, 0), clocks)))
    assert figures(parts) == figures(whole) != {}
    assert one.usage.clock.at == other.usage.clock.at == int(clocks[-1, 1])
