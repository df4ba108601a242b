"""Usage figures against the definition: any log, any split, recovery anywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.task import MeterTask
from tests.core.meter import reference
from tests.core.meter.logs import T0, USAGE, Published, Record, batches, marker, usage

GAPS = (0, 0, 50, 900, 4_000, 11_000, 70_000, 400_000, 1_900_000, 7_000_000, 50_000_000, 200_000_000)


def a_log(seed: int, size: int, users: int = 4, features: int = 2) -> list[Record]:
    """Rows with jitter, late ones, duplicates, two products, attributions, markers, and jumps of every length."""
    rng = random.Random(seed)
    calm = rng.random() < 0.5
    now, out = T0 + rng.randrange(10**9), []
    for i in range(size):
        now += rng.choice(GAPS[:6] if calm else GAPS)
        at = now
        fate = rng.random()
        if fate < 0.1:
            at -= rng.randrange(3_000)
        elif fate < 0.3:
            at -= rng.choice(
                (5_000, 60_000, 299_000, 590_000, 620_000, 899_000, 3_000_000, 4_300_000, 86_400_000, 10**9)
            )
        elif fate < 0.32:
            at += rng.choice((1_000, 30_000, 3_000_000))
        broker = now + rng.choice((0, 0, 0, 200_000, 90_000_000))
        if rng.random() < 0.05 and i:
            out.append(marker("progressed", now - rng.choice((0, 1_000, 100_000)), broker))
        name = f"e{rng.randrange(i + 1)}" if rng.random() < 0.1 else f"e{i}"
        out.append(
            usage(
                name,
                at,
                f"u{rng.randrange(users)}",
                rng.choice([None, *(f"f{k}" for k in range(features))]),
                product=rng.choice(("app", "app", "app", "web")),
                attribution=rng.choice((None, None, "organic", "campaign:x", "command:y")),
                broker=broker,
            )
        )
    return out


def a_replayed_log(seed: int, size: int) -> list[Record]:
    """As `a_log`, with replays of old rows among it, some of products that are new then, and clocks far ahead of them."""
    rng = random.Random(seed)
    live, out = a_log(seed, size), []
    olds = {f"r{k}": rng.sample(("app", "web", "new", "old"), rng.randrange(4)) for k in range(3)}
    began = {name: T0 - rng.randrange(10**9) for name in olds}
    for record in live:
        out.append(record)
        for name, products in olds.items():
            fate, at = rng.random(), began[name] + rng.choice(GAPS[:9])
            if fate < 0.08:
                out.append(marker("begun", began[name], record.at, name, products=products))
            elif fate < 0.12:
                out.append(marker("ended", at, record.at, name))
            elif fate < 0.16:
                out.append(marker("progressed", at, record.at, name))
            elif fate < 0.4 and products:
                began[name] = at - rng.choice((0, 0, 1_000, 700_000))
                user, feature = f"u{rng.randrange(3)}", f"f{rng.randrange(2)}"
                of = rng.choice(products)
                out.append(usage(f"{name}-{len(out)}", at, user, feature, product=of, broker=record.at))
        if rng.random() < 0.1:
            out.append(marker("progressed", record.at + rng.choice((0, 10**7)), record.at))
    return out


def run(records: Sequence[Record], cuts: Sequence[int], tasks: list[MeterTask] | None = None) -> Published:
    """Published figures; between batches the state moves to a new task now and then."""
    told = Published()
    task = MeterTask(0, 1, Catalogue())
    stored: dict[bytes, bytes] = {}
    for i, one in enumerate(batches(records, cuts)):
        told.take(task.step(one))
        if i % 3 == 2:
            for key, value in task.drain():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value
            if i % 2:
                task = MeterTask(0, 1, Catalogue())
                for key, value in stored.items():
                    task.load(key, value)
                task.loaded()
    told.take(task._publish(task.usage, task.usage.revise(), ()))
    if tasks is not None:
        tasks.append(task)
    return told


def check(records: Sequence[Record], told: Published) -> int:
    rows, watermarks, _ = reference.read(records)
    compared = 0
    for product, watermark in watermarks.items():
        names = {"*", *(r.feature for r in rows if r.product == product and r.feature)}
        for window in reference.WINDOWS:
            for end in reference.ends(rows, product, window, watermark):
                for name in names:
                    expected = reference.figures(rows, product, window, name, end, late=False)
                    assert told.version_0(USAGE, product, window, name, end) == expected, (
                        window,
                        end,
                        name,
                        "version 0",
                    )
                    expected = reference.figures(rows, product, window, name, end, late=True)
                    assert told.newest(USAGE, product, window, name, end) == expected, (window, end, name, "newest")
                    compared += 2
    return compared


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 40), st.lists(st.integers(0, 60), max_size=12))
def test_figures_are_those_of_the_definition(seed: int, size: int, cuts: list[int]) -> None:
    records = a_log(seed, size)
    assert check(records, run(records, cuts)) > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 30), st.lists(st.integers(0, 99), max_size=12))
def test_figures_of_products_that_begin_with_a_replay(seed: int, size: int, cuts: list[int]) -> None:
    records = a_replayed_log(seed, size)
    check(records, run(records, cuts))


def test_the_replayed_logs_reach_what_they_are_for() -> None:
    born = held = 0
    for seed in range(30):
        tasks: list[MeterTask] = []
        run(a_replayed_log(seed, 30), [10, 20, 40], tasks)
        born += len(tasks[0].usage.born)
        held += len(tasks[0].usage.held)
    assert born > held > 0
