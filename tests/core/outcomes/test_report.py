"""The weekly report: figures of days, what rules gained, and every hour of its week."""

from __future__ import annotations

import random

import pytest

from core.decide.packing import encode, key
from core.effects import Emit
from core.outcomes.arms import signature
from core.outcomes.ledger import Ledger
from core.outcomes.task import OutcomesTask
from schemas.detections import OutcomeReport
from schemas.parts import Arms, Counted, Pair, encode_part
from tests.core.outcomes.build import (
    DAY,
    FIGURED,
    MONDAY,
    PARTITIONS,
    WEEKLY,
    a_catalogue,
    a_day,
    a_rule,
    batch,
    commands,
    fold,
    found_in,
    parts,
)


def test_the_weekly_report() -> None:
    catalogue = a_catalogue(WEEKLY)
    task = OutcomesTask(0, 1, catalogue)
    receipts = [
        b'{"tenant":"acme","product":"shop","rule":"r","status":"delivered","final":true,"at":%d,"issued_at":%d}'
        % (MONDAY - DAY // 2, MONDAY - DAY // 2 - ms)
        for ms in (100, 120, 140, 4_000)
    ]
    silent = b'{"tenant":"acme","product":"shop","rule":"r","status":"suppressed","final":true,"at":5}'
    told = [e.value or b"" for e in task.step(batch("receipts", [*receipts, silent, b"{"])) if isinstance(e, Emit)]
    assert len(told) == 4
    days = [a_day(i, health=60.0 + (i % 2) + (10.0 if i > 7 else 0.0), adoption=0.3) for i in range(1, 15)]
    effects = list(task.step(batch("outcome.parts", [*told, *days])))
    first, found = found_in(effects)
    assert isinstance(first, OutcomeReport) and first.health is None, "there is no week before"
    assert isinstance(found, OutcomeReport) and found.at == MONDAY and found.window_start == MONDAY - 7 * DAY
    assert found.health is not None and found.health.difference == pytest.approx(10 - 1 / 7)
    assert found.health.low < 10 - 1 / 7 < found.health.high and found.health.low > 0
    assert found.adoption is not None and (found.adoption.low, found.adoption.high) == (0, 0)
    assert found.satisfaction is None and found.gain is None
    assert found.response is not None and found.response.commands == 4
    assert 120 <= found.response.p50_ms < 132 and 4_000 <= found.response.p95_ms < 4_400
    assert found.response_before is None
    _, command = commands(effects)
    health = command.payload["health"]
    assert isinstance(health, dict) and health["difference"] == found.health.difference
    assert list(task.step(batch("outcome.parts", days))) == [], "a day that comes again is no news"


def test_the_report_ranks_rules_and_names_what_they_have_in_common() -> None:
    catalogue = a_catalogue(a_rule(), WEEKLY)
    task = OutcomesTask(0, PARTITIONS, catalogue)
    told = [v for t in parts(catalogue, (0.5, 0.2)) for v in t]
    effects = list(task.step(batch("outcome.parts", [*told, *(a_day(i, health=50.0) for i in range(1, 15))])))
    report = next(f for f in found_in(effects) if isinstance(f, OutcomeReport))
    assert [(r.rule, r.verdict, r.subjects) for r in report.ranked] == [("welcome", "working", 1_200)]
    assert {(f.factor, f.value, f.working) for f in report.factors} == {
        ("domain", "marketing", 1),
        ("trigger", "event", 1),
        ("command", "email.send", 1),
    }
    assert (report.working, report.harmful, report.undecided) == (1, 0, 0)
    assert report.gain is not None and report.gain_low is not None and report.gain_low > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_report_has_every_hour_of_its_week_and_none_behind_it(seed: int) -> None:
    """The day is told before partitions have counted its last hours; figures and hours that come behind it are of the next."""
    catalogue = a_catalogue(a_rule(), FIGURED, WEEKLY)
    hour, other = 3_600_000, signature(a_rule())
    told: list[list[bytes]] = []
    for partition in range(PARTITIONS):
        ends = [MONDAY - hour, MONDAY, MONDAY + hour, MONDAY + 7 * DAY]
        counted = [
            Counted(end, "welcome", other, 1, [10.0, 5.0, 0.0, 0.0], [10.0, 2.0, 0.0, 0.0], [0.0] * 4) for end in ends
        ]
        arms = [Arms(tenant="acme", product="shop", partition=partition, upto=c.end, counted=[c]) for c in counted]
        told.append([encode_part(a) for a in arms])
    pairs = [
        Pair(tenant="acme", product="shop", end=end, rule="calm", signature=signature(FIGURED), version=1,
             subject="product:shop", before=0.1, after=0.1 - i / 100)
        for i, end in ((1, MONDAY - hour), (2, MONDAY), (9, MONDAY + hour))
    ]  # fmt: skip
    first = [encode_part(p) for p in pairs[:2]] + [a_day(14, health=50.0)]
    rest = [encode_part(pairs[2]), a_day(15, health=50.0)]
    # Nobody counts up to an end before the day that ends there has been told.
    before, after = [[t[0]] for t in told], [t[1:] for t in told]
    effects = fold(catalogue, [first, *before], seed, restarts=False)
    assert found_in(effects) == []
    effects = fold(catalogue, [[*first, *rest]], seed)
    assert found_in(effects) == [], "nobody has counted anything yet"
    rng = random.Random(seed)
    log = _woven(rng, [first, *before]) + _woven(rng, [rest, *after])
    (report,) = [f for f in found_in(fold(catalogue, [log], seed, restarts=True)) if f.at == MONDAY]
    assert isinstance(report, OutcomeReport) and report.window_end == MONDAY
    ranked = {r.rule: (r.subjects, r.uplift) for r in report.ranked}
    assert ranked == {"welcome": (80, pytest.approx(0.3)), "calm": (2, pytest.approx(-0.015))}


def _woven(rng: random.Random, queues: list[list[bytes]]) -> list[bytes]:
    queues, found = [list(q) for q in queues], []
    while any(queues):
        found.append(rng.choice([q for q in queues if q]).pop(0))
    return found


def test_what_an_older_version_kept_has_no_report_that_waits() -> None:
    catalogue = a_catalogue(a_rule(), WEEKLY)
    ledger = Ledger(1)
    ledger.days = [(MONDAY - DAY, {"health": 50.0})]
    *row, ended = ledger.row()
    assert ended == []
    task = OutcomesTask(0, 1, catalogue)
    task.load(key("ledger", "acme", "shop"), encode(row))
    task.loaded()
    assert found_in(task.step(batch("outcome.parts", [a_day(14, health=50.0)]))) == []
    arms = Arms(tenant="acme", product="shop", partition=0, upto=MONDAY, counted=[])
    (report,) = found_in(task.step(batch("outcome.parts", [encode_part(arms)])))
    assert report.at == MONDAY
