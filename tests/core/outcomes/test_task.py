"""From signals to verdicts: arms of several partitions, in any order, with restarts; the pause; pairs, days and the report."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from pydantic import JsonValue

from core.batch import Batch
from core.decide.packing import encode, key
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit
from core.outcomes.arms import is_held, signature
from core.outcomes.ledger import Ledger
from core.outcomes.task import OutcomesTask
from core.rules.trying import a_detection_of
from schemas.commands import Command
from schemas.definitions import CommandTemplate, Rule
from schemas.delivery import Receipt
from schemas.detections import DETECTION, OutcomeReport, VerdictReached
from schemas.outcomes import OutcomeRow
from schemas.parts import Arms, Counted, Day, Pair, decode_part, encode_part
from schemas.registers import Signal

DAY = 86_400_000
BEGIN = 1_767_225_600_000  # a Thursday
MONDAY = BEGIN + 4 * DAY
PARTITIONS = 2
EVENT = {"kind": "event", "topic": "events.usage", "where": 'type == "user.signed_up"'}
TOLD = Rule.model_validate(
    {
        "name": "told",
        "id": "told",
        "trigger": {"kind": "verdict", "verdicts": ["working", "harmful"]},
        "command": CommandTemplate(
            type="executive.outcome.tell", title="{{ rule }} is {{ verdict }}", text="{{ reason }}"
        ),
    }
)
WEEKLY = Rule.model_validate(
    {
        "name": "weekly",
        "id": "weekly",
        "trigger": {"kind": "report"},
        "command": CommandTemplate(
            type="executive.outcome.report",
            title="{{ working }} work",
            text="{{ reason }}",
            payload={
                "health": "{{ health }}",
                "ranked": "{{ ranked }}",
                "response": "{{ response }}",
                "gain": "{{ gain }}",
            },
        ),
    }
)


class Keys:
    def key(self, row: int) -> bytes | None:
        return None


def batch(topic: str, values: Iterable[bytes], at: int = BEGIN) -> Batch:
    rows: list[bytes | None] = list(values)
    n = len(rows)
    return Batch(topic, 0, rows, np.arange(n), np.full(n, at), n, Keys())


def a_rule(**more: object) -> Rule:
    fields: dict[str, object] = {
        "name": "welcome",
        "id": "welcome",
        "trigger": EVENT,
        "holdout": 0.4,
        "ceiling_per_hour": 100_000,
        "command": CommandTemplate(type="marketing.email.send", title="t", text="t"),
        "outcome": {
            "metric": {"kind": "conversion", "where": 'type == "purchase.completed"', "value": "amount"},
            "within_s": 3_600,
        },
        **more,
    }
    return Rule.model_validate(fields)


def a_catalogue(*rules: Rule) -> Catalogue:
    catalogue = Catalogue()
    for rule in rules:
        catalogue.put(rule)
    return catalogue


def a_signal(user: str, at: int, type_: str, cause: str) -> bytes:
    data: dict[str, object] = {"type": type_, "user": user, "amount": 30}
    return msgspec.json.encode(
        Signal(
            tenant="acme",
            product="shop",
            subject=f"user:{user}",
            kind="event",
            cause=cause,
            rules=["welcome"],
            at=at,
            data=data,
        )
    )


def a_clock(at: int) -> bytes:
    clock = Signal(tenant="acme", product="shop", subject="", kind="clock", cause="", rules=[], at=at, data={})
    return msgspec.json.encode(clock)


def parts(catalogue: Catalogue, chance: tuple[float, float], users: int = 1_200) -> list[list[bytes]]:
    """What each partition tells: `users` sign up over a day; of the treated and the held so many buy within the hour."""
    told: list[list[bytes]] = []
    for partition in range(PARTITIONS):
        task = SignalsTask(partition, PARTITIONS, catalogue)
        rng = np.random.default_rng(partition)
        rows: list[tuple[int, bytes]] = []
        for i in range(users // PARTITIONS):
            user, at = f"{partition}-{i}", BEGIN + int(rng.integers(0, DAY))
            rows.append((at, a_signal(user, at, "user.signed_up", f"s{user}")))
            if rng.random() < chance[is_held("acme", "welcome", f"user:{user}", 0.4)]:
                rows.append((at + 60_000, a_signal(user, at + 60_000, "purchase.completed", f"p{user}")))
        rows += [(t, a_clock(t)) for t in range(BEGIN, BEGIN + 2 * DAY, 1_800_000)]
        effects = task.step(batch("signals", [value for _, value in sorted(rows)]))
        told.append([e.value for e in effects if isinstance(e, Emit) and e.topic == "outcome.parts" and e.value])
        assert task.actor.books.difference == 0
    return told


def rows_of(effects: Iterable[Effect]) -> list[OutcomeRow]:
    return [
        OutcomeRow.model_validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "outcomes"
    ]


def found_in(effects: Iterable[Effect]) -> list[VerdictReached | OutcomeReport]:
    found = [
        DETECTION.validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "detections"
    ]
    assert all(isinstance(f, (VerdictReached, OutcomeReport)) for f in found)
    return found  # type: ignore[return-value]


def commands(effects: Iterable[Effect]) -> list[Command]:
    return [
        Command.model_validate_json(e.value or b"")
        for e in effects
        if isinstance(e, Emit) and e.topic.startswith("commands.")
    ]


def fold(catalogue: Catalogue, told: list[list[bytes]], seed: int, restarts: bool = False) -> list[Effect]:
    """The parts in some interleaving, cut into batches; with `restarts` the task is made anew from its rows after each."""
    rng = random.Random(seed)
    queues = [list(t) for t in told]
    task, state, effects = OutcomesTask(0, PARTITIONS, catalogue), {}, []
    while any(queues):
        values = [rng.choice([q for q in queues if q]).pop(0) for _ in range(min(rng.randint(1, 9), sum(map(len, queues))))
                  if any(queues)]  # fmt: skip
        effects += task.step(batch("outcome.parts", values))
        if restarts:
            for key, value in task.drain():
                state[key] = value
            task = OutcomesTask(0, PARTITIONS, catalogue)
            for key, value in state.items():
                task.load(key, value)
            task.loaded()
    assert task.actor.books.difference == 0
    return effects


def test_a_rule_that_helps_is_found_to_work() -> None:
    catalogue = a_catalogue(a_rule(), TOLD)
    told = parts(catalogue, (0.5, 0.2))
    effects = fold(catalogue, told, 1)
    (verdict,) = found_in(effects)
    assert isinstance(verdict, VerdictReached) and verdict.verdict == "working" and not verdict.pauses
    assert 0 < verdict.low < verdict.uplift < verdict.high and verdict.subject == "product:shop"
    last = rows_of(effects)[-1]
    assert last.treated is not None and last.held is not None and last.treated.subjects + last.held.subjects == 1_200
    assert last.treated.value == 30 * last.treated.converted
    assert last.uplift == pytest.approx(
        last.treated.converted / last.treated.subjects - last.held.converted / last.held.subjects
    )
    assert last.low is not None and last.high is not None and last.low <= 0.3 <= last.high
    assert last.gain == pytest.approx(30 * last.treated.subjects * last.uplift) and last.gain_low and last.gain_low > 0
    (command,) = commands(effects)
    assert command.title == "welcome is working" and command.cause == verdict.id
    assert command.why.numbers["uplift"] == verdict.uplift and command.why.thresholds == {"alpha": 0.05}
    assert not [e for e in effects if isinstance(e, Emit) and e.topic == "definitions"]
    assert Count("uptake_outcome_verdicts_total", 1, ("welcome", "working")) in effects


def test_any_interleaving_any_cuts_any_restarts_give_the_same() -> None:
    catalogue = a_catalogue(a_rule(), TOLD)
    told = parts(catalogue, (0.5, 0.2))
    expected = fold(catalogue, told, 1)
    for seed in range(2, 7):
        effects = fold(catalogue, told, seed, restarts=seed % 2 == 0)
        assert rows_of(effects) == rows_of(expected)
        assert found_in(effects) == found_in(expected)
        assert [c.id for c in commands(effects)] == [c.id for c in commands(expected)]


def test_a_rule_that_harms_is_paused_for_the_tenant_and_stays_so_until_it_is_resumed() -> None:
    catalogue = a_catalogue(a_rule(), TOLD)
    told = parts(catalogue, (0.1, 0.5))
    effects = fold(catalogue, told, 1)
    (verdict,) = found_in(effects)
    assert isinstance(verdict, VerdictReached) and verdict.verdict == "harmful" and verdict.pauses
    written = [e for e in effects if isinstance(e, Emit) and e.topic == "definitions"]
    assert [(e.key, e.partition) for e in written] == [
        (b"acme|pause|rule:welcome|1", 0),
        (b"acme|pause|rule:welcome", 0),
    ]
    for e in written:
        catalogue.apply(e.key or b"", e.value)
    assert catalogue.paused("acme", rule="welcome") and not catalogue.paused("globex", rule="welcome")
    task = SignalsTask(0, PARTITIONS, catalogue)
    after = list(task.step(batch("signals", [a_signal("z", BEGIN, "user.signed_up", "z")])))
    assert [Receipt.model_validate_json(e.value or b"").reason for e in after if isinstance(e, Emit)] == ["paused"]


def test_history_that_is_read_again_pauses_nobody() -> None:
    catalogue = a_catalogue(a_rule(), TOLD)
    told = [v for t in parts(catalogue, (0.1, 0.5)) for v in t]
    effects = list(OutcomesTask(0, PARTITIONS, catalogue).step(batch("outcome.parts", told, BEGIN + 30 * DAY)))
    assert [(f.verdict, f.pauses) for f in found_in(effects) if isinstance(f, VerdictReached)] == [("harmful", False)]
    assert not [e for e in effects if isinstance(e, Emit) and e.topic == "definitions"]


def test_to_tell_only() -> None:
    measure = a_rule().model_dump()["outcome"] | {"on_harm": "tell"}
    catalogue = a_catalogue(a_rule(outcome=measure), TOLD)
    effects = fold(catalogue, parts(catalogue, (0.1, 0.5)), 1)
    assert [c.title for c in commands(effects)] == ["welcome is harmful"]
    assert not [e for e in effects if isinstance(e, Emit) and e.topic == "definitions"]


def test_down_may_be_what_is_wanted() -> None:
    measure = a_rule().model_dump()["outcome"] | {"direction": "down"}
    catalogue = a_catalogue(a_rule(outcome=measure), TOLD)
    assert [
        f.verdict for f in found_in(fold(catalogue, parts(catalogue, (0.1, 0.5)), 1)) if isinstance(f, VerdictReached)
    ] == ["working"]


def test_without_an_effect_nothing_is_said() -> None:
    catalogue = a_catalogue(a_rule(), TOLD)
    effects = fold(catalogue, parts(catalogue, (0.3, 0.3)), 1)
    last = rows_of(effects)[-1]
    assert (
        last.verdict == "no_effect_yet" and last.low is not None and last.high is not None and last.low < 0 < last.high
    )
    assert not found_in(effects) and not commands(effects)


def test_a_changed_rule_begins_anew_and_late_counts_of_the_old_one_are_left_out() -> None:
    before, after = (
        a_rule(),
        a_rule(version=2, command=CommandTemplate(type="marketing.email.send", title="new", text="t")),
    )
    old = parts(a_catalogue(before), (0.5, 0.2), users=200)
    new = parts(a_catalogue(after), (0.5, 0.2), users=100)
    for_later = [
        msgspec.json.encode({**msgspec.json.decode(v), "upto": msgspec.json.decode(v)["upto"] + 3 * DAY,
                             "counted": [[c[0] + 3 * DAY, *c[1:]] for c in msgspec.json.decode(v)["counted"]]})
        for told in new for v in told
    ]  # fmt: skip
    effects = fold(a_catalogue(after), [old[0] + old[1]], 1)
    task = OutcomesTask(0, PARTITIONS, a_catalogue(after))
    effects = list(task.step(batch("outcome.parts", [v for told in old for v in told] + for_later)))
    last = rows_of(effects)[-1]
    assert last.rule_version == 2 and last.treated and last.held
    assert last.treated.subjects + last.held.subjects == 100, "those of the old one are another experiment"
    assert [r.version for r in rows_of(effects)] == list(range(len(rows_of(effects)))), "rows go on counting"


FIGURED = Rule.model_validate(
    {
        "name": "calm",
        "id": "calm",
        "trigger": {"kind": "band", "bands": ["declining"]},
        "command": CommandTemplate(type="engineering.load.reduce", title="t", text="t"),
        "outcome": {
            "metric": {"kind": "figure", "metric": "error_rate", "window": "1h"},
            "within_s": 7_200,
            "direction": "down",
        },
    }
)


def test_pairs_with_the_time_before() -> None:
    catalogue = a_catalogue(FIGURED, TOLD)
    task, rng = OutcomesTask(0, PARTITIONS, catalogue), np.random.default_rng(4)
    told = []
    for i in range(40):
        before = 0.10 + rng.normal(0, 0.01)
        told.append(
            Pair(
                tenant="acme",
                product="shop",
                end=BEGIN + i * DAY,
                rule="calm",
                signature=signature(FIGURED),
                version=1,
                subject="product:shop",
                before=before,
                after=before - 0.04 + rng.normal(0, 0.01),
            )
        )
    effects = list(task.step(batch("outcome.parts", [encode_part(p) for p in told])))
    gaps = np.array([p.after - p.before for p in told])
    first, last = rows_of(effects)[0], rows_of(effects)[-1]
    assert (first.low, first.high, first.verdict) == (None, None, "no_effect_yet")
    assert last.pairs == 40 and last.uplift == pytest.approx(gaps.mean()) and last.treated is None
    assert last.low is not None and last.high is not None and last.low < -0.04 < last.high < 0
    assert [f.verdict for f in found_in(effects) if isinstance(f, VerdictReached)] == ["working"]


def a_day(i: int, **figures: float) -> bytes:
    day = Day(tenant="acme", product="shop", end=MONDAY - (14 - i) * DAY, act=True, broker_time=BEGIN, figures=figures)
    return encode_part(day)


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


def test_a_rule_on_a_prediction_is_measured_and_the_held_out_show_how_well_it_predicts() -> None:
    trigger = {"kind": "prediction", "prediction": "leaving"}
    rule = a_rule(trigger=trigger)
    catalogue = a_catalogue(rule)
    task, rows = SignalsTask(0, 1, catalogue), []
    for i in range(50):
        given: dict[str, JsonValue] = {"subject": f"user:u{i}", "probability": 0.8, "at": BEGIN, "id": f"d{i}"}
        found = a_detection_of(rule.trigger, given, rule.name)
        signal = Signal(
            tenant=found.tenant,
            product=found.product,
            subject=found.subject,
            kind="prediction",
            cause=found.id,
            rules=[],
            at=found.at,
            data=found.model_dump(mode="json"),
        )
        rows.append(msgspec.json.encode(signal))
    effects = list(task.step(batch("signals", [*rows, a_clock(BEGIN + 3 * 3_600_000)])))
    held = sum(is_held("acme", "welcome", f"user:u{i}", 0.4) for i in range(50))
    assert len(commands(effects)) == 50 - held and task.actor.books.difference == 0
    (told,) = [decode_part(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "outcome.parts"]
    assert isinstance(told, Arms) and [c.held[0] for c in told.counted] == [held]
    assert told.counted[0].forecast == pytest.approx([held, 0.8 * held, 0, 0.64 * held])


def test_one_bad_row_disturbs_nothing() -> None:
    effects = list(OutcomesTask(0, 1, a_catalogue()).step(batch("outcome.parts", [b"{", a_day(1), b'{"type":"what"}'])))
    assert [e.reason for e in effects if isinstance(e, DeadLetter)] == ["invalid", "invalid"]
    with pytest.raises(msgspec.MsgspecError):
        decode_part(b"{}")
