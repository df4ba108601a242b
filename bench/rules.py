"""What rules cost events that match none of them: METER's CPU with ten rules and with ten thousand, without Kafka.

Both tasks fold the same batches, one after the other, in turns; the figure is the ratio of their CPU seconds. Then what a signal that
meets one rule costs DECIDE, beside 9 and beside 9,999 others: events that match none never come so far.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from bench.hotpath import Keys, values
from core.batch import Batch
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.meter.task import MeterTask
from schemas.definitions import All, CommandTemplate, Compare, Condition, OnEvent, Rule
from schemas.registers import Signal

FEW, MANY = 10, 10_000
_SIZE = 16_000
_AT = 1_767_603_600_000
_COMMAND = CommandTemplate(type="product.bench.note", title="Bench", text="was used")
_Where = Callable[[int], Condition]


def _is(field: str, value: str) -> Compare:
    return Compare(field=field, op="==", value=value)


def _used(*parts: Condition) -> All:
    return All(of=[_is("type", "feature.used"), *parts])


def _mixed(i: int) -> Condition:
    return (_is("type", f"order.{i}"), _is("feature", f"rare-{i}"), _used(_is("user", f"nobody-{i}")))[i % 3]


KINDS: dict[str, tuple[str, _Where, bool]] = {
    "mixed": ("by type, by feature, by user: a third each", _mixed, False),
    "types": ("by a type that does not come", lambda i: _is("type", f"order.{i}"), False),
    "users": ("by the events' own type and a user", lambda i: _used(_is("user", f"nobody-{i}")), False),
    "others": ("of other tenants, requiring no value", lambda i: Compare(field="properties.n", op=">", value=i), True),
    "apart": (
        "by the events' own type, told apart by a property",
        lambda i: _used(_is("properties.plan", f"p{i}")),
        False,
    ),
}
"""What rules wait for: a title, the condition of rule i, whether each has a tenant of its own."""


def rules(kind: str, count: int) -> Catalogue:
    """So many rules of a kind, none of which the events meet."""
    _, where, others = KINDS[kind]
    made = Catalogue()
    for i in range(count):
        tenant = f"other-{i}" if others else "acme"
        on = OnEvent(topic="events.usage", where=where(i))
        made.put(
            Rule(tenant=tenant, name=f"r{i}", id=f"r{i}", trigger=on, command=_COMMAND, ceiling_per_hour=1_000_000_000)
        )
    return made


def _batches(events: int, seed: int) -> list[Batch]:
    found = []
    for start in range(0, events, _SIZE):
        made, at = values(_SIZE, 10_000, 40, 20_000.0, seed, start)
        found.append(Batch("events.usage", 0, made, np.arange(_SIZE), at, start + _SIZE, Keys()))
    return found


def compared(kind: str, rounds: int, events: int) -> dict[str, Any]:
    """CPU seconds per million events without rules, with few and with many, and the ratio of the latter two."""
    counts = (0, FEW, MANY)
    tasks = {n: MeterTask(0, 1, rules(kind, n)) for n in counts}
    gc.collect()
    gc.freeze()  # as a worker does once its definitions are there
    spent: dict[int, list[float]] = {n: [] for n in counts}
    for turn in range(rounds + 1):
        cpu = dict.fromkeys(counts, 0.0)
        for number, batch in enumerate(_batches(events, turn)):
            for n in counts if number % 2 else reversed(counts):
                began = time.process_time()
                effects = list(tasks[n].step(batch))
                tasks[n].drain()
                cpu[n] += time.process_time() - began
                if any(getattr(e, "topic", "") == "signals" for e in effects):
                    raise RuntimeError(f"{kind}: an event met a rule")
        if turn:  # the first one fills caches
            for n in counts:
                spent[n].append(cpu[n] / (-(-events // _SIZE) * _SIZE) * 1e6)
    ratios = [many / few for few, many in zip(spent[FEW], spent[MANY], strict=True)]
    return {
        "rules": KINDS[kind][0],
        "cpu_s_per_million": {str(n): round(statistics.median(spent[n]), 3) for n in counts},
        "ratio": round(statistics.median(ratios), 3),
    }


def _signal(i: int) -> bytes:
    made = Signal(
        tenant="acme",
        product="app",
        subject=f"user:u{i % 500}",
        kind="event",
        cause=f"e{i}",
        rules=["r5"],
        at=_AT + i,
        data={"type": "order.5", "user": f"u{i % 500}"},
    )
    return msgspec.json.encode(made)


def deciding(rounds: int, signals: int) -> dict[str, Any]:
    """µs of DECIDE for a signal that meets one rule of few, and of many."""
    value: list[bytes | None] = [_signal(i) for i in range(signals)]
    spent: dict[int, list[float]] = {FEW: [], MANY: []}
    for _ in range(rounds):
        for n in (FEW, MANY):
            task = SignalsTask(0, 1, rules("types", n))
            batch = Batch("signals", 0, [*value], np.arange(signals), np.full(signals, _AT), signals, Keys())
            first = Batch("signals", 0, value[:1], np.arange(1), np.full(1, _AT), 1, Keys())
            list(task.step(first))  # the index is made once
            began = time.process_time()
            effects = list(task.step(batch))
            spent[n].append((time.process_time() - began) / signals * 1e6)
            if sum(getattr(e, "topic", "") == "commands.product" for e in effects) != signals:
                raise RuntimeError("a signal did not meet its rule")
    few, many = (statistics.median(spent[n]) for n in (FEW, MANY))
    return {"few_us": round(few, 1), "many_us": round(many, 1), "ratio": round(many / few, 3)}


def measure(*, quick: bool, runs: int) -> dict[str, Any]:
    """Each kind of rules, then DECIDE."""
    events = 64_000 if quick else 208_000
    found = []
    for kind in KINDS:
        found.append(compared(kind, runs, events))
        print(f"    {found[-1]}", flush=True)
    return {"meter": found, "decide": deciding(runs, 2_000 if quick else 20_000)}
