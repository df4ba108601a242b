"""Performance figures against the definition."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.task import MeterTask
from schemas.registers import bucket_of
from tests.core.meter import reference
from tests.core.meter.logs import PERFORMANCE, T0, Published, Record, batches, request


def a_log(seed: int, size: int) -> list[Record]:
    rng = random.Random(seed)
    now, out = T0, []
    for i in range(size):
        now += rng.choice((0, 100, 3_000, 15_000, 90_000, 4_000_000))
        at = now - (rng.choice((4_000, 40_000, 400_000, 800_000)) if rng.random() < 0.2 else 0)
        extra = rng.choice(({}, {"status": 200}, {"status": 503}, {"error": False}, {"error": ""}, {"error": "boom"}))
        service = rng.choice(("api", "web", "api#159", None))
        if service is None:
            extra = {**extra, "feature": "export"}
        latency = rng.choice((0, 0.0004, 0.25, 1, 12.345, 300, 300.5, 1200, 1200.001, rng.random() * 5_000))
        out.append(request(f"e{i}", at, latency, service, broker=now, **extra))
    return out


def expected(rows: Sequence[reference.Seen], window: str, name: str, end: int, grace: int) -> tuple[int, ...]:
    bucket, _, base = name[1:].partition(":") if name.startswith("#") else ("", "", name)
    length, _ = reference.WINDOWS[window]
    figures = [0] * 5
    for r in rows:
        about = f"service:{r.body['service']}" if r.body.get("service") else f"feature:{r.body['feature']}"
        if base not in ("*", about) or not (end - length <= r.at < end and r.w - grace < end):
            continue
        latency = float(r.body["latency_ms"])  # type: ignore[arg-type]
        us = round(latency * 1000)
        if bucket:
            figures[0] += bucket == ("zero" if us < 1 else str(math.ceil(math.log2(us) * 16) - 1))
            continue
        error = bool(r.body.get("error")) or int(r.body.get("status", 200)) >= 500  # type: ignore[call-overload]
        for i, n in enumerate((1, error, latency <= 300, 300 < latency <= 1200, us)):
            figures[i] += n
    return tuple(figures)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.lists(st.integers(0, 60), max_size=8))
def test_sums_and_sketches_are_those_of_the_definition(seed: int, size: int, cuts: list[int]) -> None:
    records = a_log(seed, size)
    task, told = MeterTask(0, 1, Catalogue()), Published()
    for one in batches(records, cuts, PERFORMANCE):
        told.take(task.step(one))
    told.take(task._publish(task.performance, task.performance.revise(), ()))
    rows, watermarks, _ = reference.read(records)
    names = {name for cells in told.patches.values() for _, _, cell in cells for name in cell}
    for window in reference.WINDOWS:
        for end in reference.ends(rows, "acme|app", window, watermarks["acme|app"]):
            for name in names | {"*", "service:api", "#zero:*"}:
                want = expected(rows, window, name, end, 0)
                assert told.version_0(PERFORMANCE, "acme|app", window, name, end) == want, (window, end, name)
                want = expected(rows, window, name, end, reference.GRACE)
                assert told.newest(PERFORMANCE, "acme|app", window, name, end) == want, (window, end, name, "newest")


def test_a_sketch_counts_every_request_once() -> None:
    rng = random.Random(3)
    records = [request(f"e{i}", T0 + i, rng.lognormvariate(3, 1)) for i in range(500)]
    task, told = MeterTask(0, 1, Catalogue()), Published()
    told.take(task.step(batches([*records, request("end", T0 + 60_000)], [], PERFORMANCE)[0]))
    end = T0 + 50_000
    names = {
        n
        for cells in told.patches.values()
        for _, _, cell in cells
        for n in cell
        if n.startswith("#") and n.endswith(":service:api")
    }
    counted = Counter({n: told.version_0(PERFORMANCE, "acme|app", "5m", n, end)[0] for n in names})
    assert counted.total() == 500 == told.version_0(PERFORMANCE, "acme|app", "5m", "service:api", end)[0]


def test_a_name_with_a_hash_is_no_bucket_of_another() -> None:
    records = [
        *(request(f"a{i}", T0 + i, 1.0) for i in range(4)),
        *(request(f"b{i}", T0 + i, 1.0, "api#159") for i in range(3)),
        *(request(f"c{i}", T0 + i, 1.0, None, feature="#zero:service:api") for i in range(2)),
    ]
    task, told = MeterTask(0, 1, Catalogue()), Published()
    told.take(task.step(batches([*records, request("end", T0 + 60_000)], [], PERFORMANCE)[0]))
    end = T0 + 50_000
    for name, requests in (
        ("service:api", 4),
        ("service:api#159", 3),
        ("feature:#zero:service:api", 2),
        ("#159:service:api", 4),
        ("#159:service:api#159", 3),
        ("#159:feature:#zero:service:api", 2),
        ("#zero:service:api", 0),
        ("#159:*", 9),
    ):
        assert told.version_0(PERFORMANCE, "acme|app", "5m", name, end)[0] == requests, name
    names = {n for cells in told.patches.values() for _, _, cell in cells for n in cell}
    assert {bucket_of(n) for n in names} == {
        None,
        ("*", 159),
        ("service:api", 159),
        ("service:api#159", 159),
        ("feature:#zero:service:api", 159),
    }
