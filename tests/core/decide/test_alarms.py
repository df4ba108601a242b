"""Thresholds: the state machine beside a plain walk over all ends, and the figures they look at."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.decide.product import ProductState
from core.detect.threshold import OK, State, due, step
from schemas.definitions import Product, Threshold
from schemas.detections import ThresholdCleared, ThresholdCrossed
from schemas.registers import Clock, Patch, Registers

STEP = 10_000


def a_threshold(**more: object) -> Threshold:
    fields = {"name": "t", "metric": "error_rate", "op": ">", "limit": 0.5, **more}
    return Threshold.model_validate(fields)


def plain(values: list[float | None], t: Threshold) -> list[tuple[int, str]]:
    """The words of docs/semantics.md, evaluated at every single end."""
    edges, phase, since = [], "ok", 0
    for i, value in enumerate(values):
        at = i * STEP
        if value is None:
            if t.on_no_data == "keep":
                continue
            past = back = t.on_no_data == "alert"
        else:
            past = value > t.limit
            back = value > (t.clear_limit if t.clear_limit is not None else t.limit)
            back = back or past
        if phase == "ok" and past:
            phase, since = "pending", at
        elif phase == "pending" and not past:
            phase = "ok"
        if phase == "pending" and at - since >= t.for_s * 1000:
            phase = "firing"
            edges.append((at, "crossed"))
            continue
        if phase == "firing" and not back:
            phase, since = "recovering", at
        elif phase == "recovering":
            if past:
                phase = "firing"
            elif back:
                since = at
        if phase == "recovering" and at - since >= t.keep_firing_for_s * 1000:
            phase = "ok"
            edges.append((at, "cleared"))
    return edges


@given(
    st.lists(st.sampled_from([0.1, 0.35, 0.6, None]), max_size=40),
    st.sampled_from([0, 20, 30]),
    st.sampled_from([0, 25]),
    st.sampled_from([None, 0.3]),
    st.sampled_from(["keep", "ok", "alert"]),
)
def test_judged_only_when_due_or_changed(
    values: list[float | None], for_s: int, keep_s: int, clear: float | None, no_data: str
) -> None:
    t = a_threshold(for_s=for_s, keep_firing_for_s=keep_s, clear_limit=clear, on_no_data=no_data)
    state, edges, wake, before = OK, [], None, object()
    for i, value in enumerate(values):
        at = i * STEP
        if value == before and not (wake is not None and wake <= at):
            continue
        before = value
        state, edge = step(state, value, at, t)
        if edge:
            edges.append((at, edge))
        wake = due(state, t)
    assert edges == plain(values, t)


def test_phases() -> None:
    t = a_threshold(for_s=20, keep_firing_for_s=30, clear_limit=0.3)
    state, _ = step(OK, 0.9, 0, t)
    assert state == State("pending", 0, 0) and due(state, t) == 20_000
    state, edge = step(state, 0.9, 20_000, t)
    assert edge == "crossed" and state.crossed_since == 0 and state.fired_at == 20_000
    state, edge = step(state, 0.4, 30_000, t)
    assert state.phase == "firing" and edge is None, "between the limits it goes on firing"
    state, edge = step(state, 0.1, 40_000, t)
    assert state.phase == "recovering" and due(state, t) == 70_000
    back, edge = step(state, 0.9, 50_000, t)
    assert back.phase == "firing" and edge is None and back.fired_at == 20_000
    state, edge = step(state, 0.1, 70_000, t)
    assert (state, edge) == (OK, "cleared")


def test_between_the_limits_each_end_counts_though_nothing_changes() -> None:
    t = a_threshold(for_s=0, keep_firing_for_s=25, clear_limit=0.3)
    state, edge = step(OK, 0.6, 0, t)
    state, edge = step(state, 0.1, 10_000, t)
    state, edge = step(state, 0.4, 20_000, t)
    assert due(state, t) == 20_001, "at the next end, whatever comes"
    state, edge = step(state, 0.4, 30_000, t)
    state, edge = step(state, 0.1, 40_000, t)
    assert edge is None and due(state, t) == 55_000
    assert step(state, 0.1, 50_000, t)[1] is None and step(state, 0.1, 60_000, t)[1] == "cleared"


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def a_product(thresholds: list[Threshold]) -> ProductState:
    product = ProductState("acme", "shop", 1)
    product.configure(Product(tenant="acme", name="shop", min_target_users=2), thresholds, 1)
    return product


def feed(product: ProductState, source: str, end: int, names: list[str], columns: dict[str, list[int]]) -> None:
    patch = Patch("5m", end, 0, numbers(*range(len(names))), [numbers(*c) for c in columns.values()])
    record = Registers(
        source=source,
        partition=0,
        tenant="acme",
        product="shop",
        names=names,
        columns=list(columns),
        patches=[patch],
        clock=end,
        act=True,
    )
    product.take(record, product.clocks, product.clocks)


def requests(n: int, errors: int = 0, satisfied: int = 0, tolerating: int = 0, us: int = 0) -> list[int]:
    return [n, errors, satisfied, tolerating, us]


COLUMNS = ("requests", "errors", "satisfied", "tolerating", "latency_sum_us")


@pytest.mark.parametrize(
    ("fields", "subject", "value"),
    [
        ({"metric": "error_rate", "limit": 0.1}, "product:shop", 0.2),
        ({"metric": "error_rate", "limit": 0.1, "of": "service:api"}, "service:api", 0.25),
        ({"metric": "requests", "limit": 9}, "product:shop", 10.0),
        ({"metric": "apdex", "limit": 0.1}, "product:shop", 0.7),
        ({"metric": "latency_mean_ms", "limit": 1}, "product:shop", 12.5),
        ({"metric": "latency_p95_ms", "limit": 1}, "product:shop", 2 ** (224 / 16) / 1000),
        ({"metric": "latency_p95_ms", "limit": 1, "of": "service:api"}, "service:api", None),
        ({"metric": "users", "limit": 3}, "feature:export", 4.0),
        ({"metric": "users", "limit": 3, "of": "export"}, "feature:export", 4.0),
        ({"metric": "active_users", "limit": 3}, "product:shop", 8.0),
        ({"metric": "events", "limit": 3}, "product:shop", 20.0),
        ({"metric": "adoption_rate", "limit": 0.3}, "feature:export", 0.5),
    ],
)
def test_metrics(fields: dict[str, object], subject: str, value: float | None) -> None:
    product = a_product([a_threshold(**fields)])
    end = 1_767_225_610_000
    usage = {"users": [8, 4, 1], "events": [20, 5, 1], "organic": [8, 4, 1]}
    feed(product, "events.usage", end, ["*", "export", "rare"], usage)
    rows = [requests(10, 2, 6, 2, 125_000), requests(4, 1), requests(1), requests(8), requests(1)]
    columns = {c: [r[i] for r in rows] for i, c in enumerate(COLUMNS)}
    feed(product, "events.performance", end, ["*", "service:api", "#zero:*", "#100:*", "#223:*"], columns)
    found = [
        d
        for _, _, ds in product.judge(product.clocks, product.clocks)
        for d, _ in ds
        if isinstance(d, ThresholdCrossed)
    ]
    if value is None:
        assert not found
        return
    assert [(d.subject, d.value) for d in found] == [(subject, pytest.approx(value))]


def test_timers_move_with_the_clock_alone() -> None:
    """Nothing changes any more, and yet the threshold fires and clears when its time has come."""
    product = a_product([a_threshold(metric="error_rate", limit=0.1, for_s=60, keep_firing_for_s=30)])
    end = 1_767_225_610_000
    feed(product, "events.usage", end, ["*"], {"users": [8], "events": [8], "organic": [8]})
    columns = {c: [v] for c, v in zip(COLUMNS, requests(10, 5), strict=True)}
    feed(product, "events.performance", end, ["*"], columns)
    assert not [d for _, _, ds in product.judge(product.clocks, product.clocks) for d, _ in ds]
    idle = Clock(source="events.usage", partition=0, at=end + 59_999, replaying=False)
    product.clocks[:] = idle.at
    assert not [d for _, _, ds in product.judge(product.clocks, product.clocks) for d, _ in ds]
    product.clocks[:] = end + 60_000
    (crossed,) = [d for _, _, ds in product.judge(product.clocks, product.clocks) for d, _ in ds]
    assert isinstance(crossed, ThresholdCrossed) and crossed.at == end + 60_000 and crossed.since == end
    columns = {c: [v] for c, v in zip(COLUMNS, requests(0), strict=True)}
    feed(product, "events.performance", end + 300_000, ["*"], columns)
    product.clocks[:] = end + 999_999
    assert not [d for _, _, ds in product.judge(product.clocks, product.clocks) for d, _ in ds], (
        "no data keeps the state"
    )
    columns = {c: [v] for c, v in zip(COLUMNS, requests(10, 1), strict=True)}
    feed(product, "events.performance", end + 1_000_000, ["*"], columns)
    product.clocks[:] = end + 1_100_000
    (cleared,) = [d for _, _, ds in product.judge(product.clocks, product.clocks) for d, _ in ds]
    assert isinstance(cleared, ThresholdCleared) and cleared.fired_at == crossed.at
    assert cleared.at == end + 1_030_000
