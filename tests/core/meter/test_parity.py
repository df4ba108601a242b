"""METER's C decode accepts what the pydantic words accept (read strictly), and refuses what they refuse."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.definitions import Catalogue
from core.meter.scalar import Scalar
from core.meter.task import MeterTask
from schemas.events import PerformanceEvent, UsageEvent
from tests.core.meter import test_usage
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Record, batch

ODD: list[Any] = [None, "", "x", "x" * 257, 7, True, [], {}, {"a": 1}]
USAGE_FIELDS: dict[str, list[Any]] = {
    "id": ["e1", *ODD],
    "tenant": ["acme", "Acme", "", "a|b", 5],
    "product": ["app", *ODD],
    "type": ["feature.used", "page.viewed", *ODD],
    "user": ["u1", *ODD],
    "feature": ["f1", *ODD],
    "account": ["a1", *ODD],
    "occurred_at": [T0, "2023-11-15T00:00:00Z", "2023-11-15T00:00:00+02:00", "noon", -1, None, [], T0],
    "properties": [{}, {"a": {"b": [1]}}, None, [], "x", 5],
    "attribution": ["organic", "campaign:x", "command:1", "campaign:", "friend", None, 5],
    "unknown": [1, {"x": 1}],
}
PERFORMANCE_FIELDS: dict[str, list[Any]] = {
    **{k: USAGE_FIELDS[k] for k in ("id", "tenant", "product", "occurred_at", "properties", "unknown")},
    "type": ["request.completed", "other", ""],
    "service": ["api", *ODD],
    "feature": ["f1", *ODD],
    "latency_ms": [0, 12.5, -1, "5", None, True],
    "status": [200, 503, 99, 600, "200", None],
    "error": [True, False, "", "boom", None, 5, []],
    "user": ["u1", *ODD],
}


def bodies(fields: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly sound events: each field is as it should be, odd, or missing."""
    parts = {}
    for name, values in fields.items():
        usual = st.just(values[0])
        parts[name] = st.one_of(usual, usual, usual, usual, st.sampled_from(values), st.just(...))
    return st.fixed_dictionaries(parts).map(lambda body: {k: v for k, v in body.items() if v is not ...})


def accepted(body: dict[str, Any], topic: str) -> bool:
    task = MeterTask(0, 1, Catalogue())
    list(task.step(batch([Record(json.dumps(body).encode(), T0)], topic)))
    return bool(task._sources[topic].windows)


@settings(max_examples=300, deadline=None)
@given(bodies(USAGE_FIELDS))
def test_usage_events(body: dict[str, Any]) -> None:
    try:
        UsageEvent.model_validate_json(json.dumps(body), strict=True)
        sound = True
    except ValidationError:
        sound = False
    assert accepted(body, USAGE) == sound, body


@settings(max_examples=300, deadline=None)
@given(bodies(PERFORMANCE_FIELDS))
def test_performance_events(body: dict[str, Any]) -> None:
    try:
        PerformanceEvent.model_validate_json(json.dumps(body), strict=True)
        sound = True
    except ValidationError:
        sound = False
    assert accepted(body, PERFORMANCE) == sound, body


def test_the_random_logs_reach_the_slow_paths() -> None:
    """The property tests would prove little of what they never run."""
    folded = 0
    original = Scalar.fold

    def counting(self: Scalar, *args: Any) -> int:
        nonlocal folded
        folded += 1
        return original(self, *args)

    Scalar.fold = counting  # type: ignore[method-assign]
    try:
        tasks: list[MeterTask] = []
        dirty = wide = 0
        for seed in range(40):
            test_usage.run(test_usage.a_log(seed, 40), [10, 20], tasks)
            wide += len(tasks[-1].usage.pairs.wide)
            dirty += any(w.late for ws in tasks[-1].usage.windows.values() for w in ws)
    finally:
        Scalar.fold = original  # type: ignore[method-assign]
    assert folded > 20 and dirty > 5 and wide > 0
