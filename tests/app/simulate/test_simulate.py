"""Simulated runs: repeatable, in the stated shares, and sound where they say they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from app.simulate import file, live
from app.simulate.curve import hourly_load, load_at
from app.simulate.encode import Encoded, Encoder
from app.simulate.order import chunks
from app.simulate.plan import Dirt, Plan, standard
from app.simulate.spoil import WAYS
from schemas.events import PerformanceEvent, UsageEvent
from tests.app.simulate.logs import judge

CLEAN = Dirt(0, 0, 0, 0.5, 0, 0)


def rows(plan: Plan) -> list[Encoded]:
    encoder = Encoder(plan)
    return [encoder.encode(c) for c in chunks(plan)]


def small(**more: object) -> Plan:
    return standard(**{"events": 20_000, "users": 400, "features": 8, "days": 1.0, **more})  # type: ignore[arg-type]


def test_a_seed_gives_the_same_bytes() -> None:
    one, two, other = rows(small()), rows(small()), rows(small(seed=2))
    assert [(c.keys, c.values, c.headers) for c in one] == [(c.keys, c.values, c.headers) for c in two]
    assert [c.values for c in one] != [c.values for c in other]


def test_sound_rows_are_events_of_the_contract() -> None:
    usage, performance = TypeAdapter(UsageEvent), TypeAdapter(PerformanceEvent)
    kinds: Counter[str] = Counter()
    for chunk in rows(small(dirt=CLEAN)):
        for is_performance, key, value in zip(chunk.performance, chunk.keys, chunk.values, strict=True):
            assert value is not None and key is not None
            if is_performance:
                request = performance.validate_json(value)
                assert key.decode() == f"{request.tenant}|{request.service or request.feature}"
                kinds["performance"] += 1
            else:
                event = usage.validate_json(value)
                assert key.decode() == f"{event.tenant}|{event.user}"
                kinds[event.type] += 1
                kinds["rfc3339" if not isinstance(event.occurred_at, int) else "ms"] += 1
    assert 5_500 < kinds["performance"] < 6_500
    assert abs(kinds["rfc3339"] - kinds["ms"]) < 600
    assert min(kinds["feature.used"], kinds["session.active"]) > 1_000


def test_dirt_comes_in_the_stated_shares_and_the_oracle_names_it() -> None:
    plan = small(events=60_000)
    _, partitions = judge(plan, rows(plan))
    outcomes: Counter[str] = Counter()
    for part in partitions:
        outcomes.update(part.outcomes)
    dead = {r: n for r, n in outcomes.items() if r not in ("accepted", "duplicate", "control")}
    assert set(dead) == {
        "null_value", "too_large", "not_json", "bad_cloudevent", "invalid", "bad_tenant", "too_far_ahead",
    }  # fmt: skip
    assert dead["too_large"] == plan.dirt.huge
    assert 0.007 < sum(dead.values()) / 60_000 < 0.011
    assert 0.045 < outcomes["duplicate"] / 60_000 < 0.052
    assert sum(n for r, n in outcomes.items() if r != "control") == pytest.approx(60_000, rel=0.01)


def test_late_rows_are_late_within_grace() -> None:
    plan = small(dirt=Dirt(0, 0, 0.1, 0, 0, 0))
    late = behind = total = 0
    for columns in chunks(plan):
        by = columns.arrival - columns.at
        late += int((by > plan.disorder_ms).sum())
        behind = max(behind, int(by.max(initial=0)))
        total += len(columns)
        assert (columns.arrival[1:] >= columns.arrival[:-1]).all()
    assert 0.09 < late / total < 0.11
    assert behind < plan.grace_ms


def test_stages_of_all_kinds_and_incidents_show() -> None:
    plan = standard(events=60_000, users=400, features=8, days=3.0)
    judged, _ = judge(plan, rows(plan))
    entered = {f.facts.get("stage") or f.facts.get("band") or f.kind for f in judged.found}
    assert {"low", "growth", "market", "viral_entered"} <= entered
    assert len({"critical", "declining", "stable", "optimal"} & entered) >= 2


def test_a_file_says_everything_and_a_plain_one_is_events(tmp_path: Path) -> None:
    plan = small(events=4_000, dirt=Dirt(malformed=0.2, huge=1))
    made = rows(plan)
    assert file.write(tmp_path / "all.jsonl", made) == sum(map(len, made))
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").open()]
    assert {line["topic"] for line in lines} == {"events.usage", "events.performance"}
    assert sum(line.get("value", 0) is None for line in lines) > 0
    assert any(line.get("headers") for line in lines)
    plain = file.write(tmp_path / "plain.jsonl", made, plain=True)
    assert 0 < plain < len(lines)


def test_every_way_to_be_wrong_is_used() -> None:
    used: Counter[int] = Counter()
    for columns in chunks(small(dirt=Dirt(malformed=0.3))):
        used.update(columns.spoilt.tolist())
    assert {WAYS[k] for k in used} == set(WAYS)


def test_live_keeps_pace_with_the_clock() -> None:
    start = 1_800_000_000_000
    pacer = live.Pacer(live.demo(start), rate=300)
    per_second = [len(pacer.due(start + 1000 * s)) for s in range(1, 121)]
    wanted = 300 * sum(load_at(s * 180_000) for s in range(120))  # an hour of the curve passes in 20 s
    assert sum(per_second) == pytest.approx(wanted, rel=0.05)
    assert max(per_second) > 2 * min(per_second)
    assert len(pacer.due(start)) == 0


def test_the_load_curve_is_real_and_uneven() -> None:
    load = hourly_load()
    assert len(load) > 1000
    assert 0.95 < load.mean() < 1.05 and load.min() < 0.3 and load.max() > 1.7


def test_nothing_to_simulate_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        standard(events=0)
