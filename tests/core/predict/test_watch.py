"""Predictions day by day: a user who falls silent crosses and one who goes on does not; how the log was cut does not matter."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.batch import Batch
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.meter.task import MeterTask
from core.predict.daily import end_day
from schemas.definitions import DEFINITION, Definition
from schemas.detections import DETECTION, PredictionCleared, PredictionCrossed
from tests.core.meter.logs import T0, Keys, Record, batch, batches, marker, usage

DAY = 86_400_000
DAYS = 40


def a_prediction(**more: Any) -> Definition:
    return DEFINITION.validate_python(
        {"kind": "prediction", "name": "leaving", "horizon_days": 7, "max_error": 0.2, **more}
    )


def known(*definitions: Definition) -> Catalogue:
    catalogue = Catalogue()
    for definition in definitions or (a_prediction(),):
        catalogue.put(definition)
    return catalogue


def a_log(users: int = 260, days: int = DAYS, seed: int = 3, convert: bool = False) -> list[Record]:
    """Regulars who go on, others who come for a while and go; `falls` is regular until day 30, `stays` all along."""
    rng = random.Random(seed)
    rows: list[tuple[int, str, str]] = []
    for n in range(users):
        begins, often = rng.randrange(0, 20), rng.choice([0.9, 0.6, 0.3])
        ends = days if rng.random() < 0.5 else begins + rng.randrange(1, 25)
        for day in range(begins, min(days, ends)):
            if rng.random() < often:
                rows.append((T0 + day * DAY + rng.randrange(DAY), f"u{n}", "f1"))
                if convert and often > 0.8 and rng.random() < 0.1:
                    rows.append((T0 + day * DAY + rng.randrange(DAY), f"u{n}", "pay"))
    for day in range(days):
        rows.append((T0 + day * DAY + 1_000 + day, "stays", "f1"))
        if day < 30:
            rows.append((T0 + day * DAY + 2_000 + day, "falls", "f1"))
    return [usage(f"e{i}", at, user, feature) for i, (at, user, feature) in enumerate(sorted(rows))]


def signals(effects: list[Effect]) -> list[dict[str, Any]]:
    found = [json.loads(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "signals"]
    return [s for s in found if s["kind"] == "prediction"]


def run(parts: list[Batch], catalogue: Catalogue, recover: bool = False) -> list[dict[str, Any]]:
    """All that was told; with `recover` the task is made anew from what it drained before each batch."""
    task, found = MeterTask(0, 1, catalogue), []
    state: dict[bytes, bytes] = {}
    for part in parts:
        found += signals(list(task.step(part)))
        for key, value in task.drain():
            state.pop(key, None) if value is None else state.__setitem__(key, value)
        if recover:
            task = MeterTask(0, 1, catalogue)
            for key, value in state.items():
                task.load(key, value)
            task.loaded()
    return found


LOG = a_log()
WHOLE = run([batch(LOG)], known())


def test_who_falls_silent_crosses_and_who_stays_does_not() -> None:
    found = [DETECTION.validate_python(s["data"]) for s in WHOLE]
    crossed = [d for d in found if isinstance(d, PredictionCrossed)]
    mine = [d for d in crossed if d.subject == "user:falls"]
    assert [d.prediction for d in mine] == ["leaving"]
    (one,) = mine
    assert T0 + 31 * DAY < one.at <= T0 + DAYS * DAY
    assert one.at % DAY == 0 and one.window_end == one.at
    assert one.probability > one.limit == 0.7
    assert one.reasons["gap_days"] > 0
    assert one.measured == "outcomes" and one.measured_at < one.at and one.measured_users >= 200
    assert one.calibration_error <= 0.2 and one.brier < one.base_brier
    assert "last seen" in one.because and one.model_version.startswith("inactivity 1, fitted 20")
    assert not [d for d in found if d.subject == "user:stays"]
    by_user: dict[str, list[str]] = {}
    for d in found:
        by_user.setdefault(d.subject, []).append(d.kind)
    for kinds in by_user.values():
        assert kinds[0] == "prediction_crossed"
        assert all(a != b for a, b in pairwise(kinds)) or "prediction_cleared" not in kinds


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, len(LOG)), max_size=6), st.booleans())
def test_any_split_of_the_log_and_any_recovery_tells_the_same(cuts: list[int], recover: bool) -> None:
    assert run(batches(LOG, cuts), known(), recover) == WHOLE


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 6_000), max_size=5), st.integers(0, 1 << 30))
def test_late_rows_and_markers_count_by_where_they_stand(cuts: list[int], seed: int) -> None:
    rng = random.Random(seed)
    log = list(LOG)
    for _ in range(40):  # rows that come up to a day after the others of their time
        i = rng.randrange(len(log) - 400)
        log.insert(i + rng.randrange(400), log.pop(i))
    for n, day in enumerate(sorted(rng.sample(range(5, DAYS), 3))):
        at = next(i for i, r in enumerate(log) if json.loads(r.value or b"").get("occurred_at", 0) >= T0 + day * DAY)
        log.insert(at, marker("progressed", T0 + day * DAY + 5_000, T0 + day * DAY, replay=f"r{n}"))
    whole = run([batch(log)], known())
    assert whole
    assert run(batches(log, cuts), known()) == whole


def test_the_gate_stays_closed_while_the_measure_is_bad() -> None:
    strict = known(a_prediction(max_error=1e-6))
    assert run([batch(LOG)], strict) == []
    task = MeterTask(0, 1, strict)
    counted = [e for e in task.step(batch(LOG)) if isinstance(e, Count) and e.metric == "uptake_prediction_days_total"]
    assert {e.labels for e in counted} == {("too_few_users",), ("gate_closed",)}


def test_a_pause_and_a_lower_limit_to_clear() -> None:
    at_once = {s["subject"]: s["at"] for s in WHOLE if s["data"]["kind"] == "prediction_crossed"}
    held = run([batch(LOG)], known(a_prediction(for_s=2 * DAY // 1000)))
    later = {s["subject"]: s["at"] for s in held if s["data"]["kind"] == "prediction_crossed"}
    assert later and set(later) <= set(at_once)
    assert all(later[who] >= at_once[who] + 2 * DAY for who in later)
    wide = run([batch(LOG)], known(a_prediction(limit=0.7, clear_limit=0.05)))
    narrow = [s for s in WHOLE if s["data"]["kind"] == "prediction_cleared"]
    assert narrow
    assert len([s for s in wide if s["data"]["kind"] == "prediction_cleared"]) < len(narrow)
    cleared = [DETECTION.validate_python(s["data"]) for s in narrow]
    assert all(isinstance(d, PredictionCleared) and d.probability <= d.limit and d.fired_at < d.at for d in cleared)


def test_conversions_are_of_those_who_did_not_convert_yet() -> None:
    log = a_log(users=600, convert=True, seed=8)
    buys = known(a_prediction(name="buys", model="conversion", feature="pay", limit=0.2, max_error=0.3))
    found = [DETECTION.validate_python(s["data"]) for s in run([batch(log)], buys)]
    crossed = [d for d in found if isinstance(d, PredictionCrossed)]
    assert crossed
    first: dict[str, int] = {}
    for record in log:
        row = json.loads(record.value or b"")
        if row["feature"] == "pay":
            first.setdefault(f"user:{row['user']}", row["occurred_at"])
    for d in crossed:
        assert first.get(d.subject, d.at) >= d.at
        assert d.feature == "pay"
    became = [
        d.subject in first and first[d.subject] < d.at + 7 * DAY for d in crossed if d.at + 7 * DAY <= T0 + DAYS * DAY
    ]
    assert np.mean(became) > 2 * len(first) / 600 * 7 / DAYS, (
        "they convert more than twice as often as everybody in a week"
    )


def test_what_is_retired_is_forgotten_and_other_products_are_their_own() -> None:
    only = known(a_prediction(product="other"))
    assert run([batch(LOG)], only) == []
    catalogue = known()
    task = MeterTask(0, 1, catalogue)
    half = len(LOG) * 7 // 8
    list(task.step(batch(LOG[:half])))
    kept = dict(task.drain())
    assert any(key.startswith(b"predict|") for key in kept)
    catalogue.apply(b"all|prediction|leaving", None)
    assert signals(list(task.step(batch(LOG[half:], offset=half)))) == []
    assert task.drain()


def test_a_long_silence_costs_no_more_than_the_days_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    task = MeterTask(0, 1, known())
    list(task.step(batch(LOG)))
    judged: list[int] = []

    def counting(*args: Any) -> Any:
        judged.append(args[-1])
        return end_day(*args)

    monkeypatch.setattr("core.predict.watch.end_day", counting)
    list(task.step(batch([usage("late", T0 + 4_000 * DAY, "stays")], offset=len(LOG))))
    assert 0 < len(judged) <= 29
    assert max(judged) == T0 // DAY + 4_000 - 1 or max(judged) == T0 // DAY + 4_000


def test_decide_publishes_them_and_rules_act_on_them() -> None:
    rule = {
        "kind": "rule", "name": "offer", "id": "J12", "trigger": {"kind": "prediction", "prediction": "leaving"},
        "when": "probability > 0.75 && gap_days >= 2",
        "command": {
            "type": "marketing.offer.send", "title": "{{ subject }}", "text": "{{ because }}", "payload": {"p": "{{ probability }}"},
        },
    }  # fmt: skip
    catalogue = known(a_prediction(), DEFINITION.validate_python(rule))
    values = [json.dumps(s).encode() for s in run([batch(LOG)], catalogue)]
    n = len(values)
    task = SignalsTask(0, 1, catalogue)
    effects = list(task.step(Batch("signals", 0, list(values), np.arange(n), np.full(n, T0), n, Keys([]))))
    told = [DETECTION.validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "detections"]
    assert len(told) == n
    given_ = [json.loads(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "commands.marketing"]
    wanted = [d for d in told if isinstance(d, PredictionCrossed) and d.probability > 0.75 and d.gap_days >= 2]
    assert [c["cause"] for c in given_] == [d.id for d in wanted]
    assert all(
        c["payload"]["p"] == d.probability and c["why"]["detection"] == d.id
        for c, d in zip(given_, wanted, strict=True)
    )
