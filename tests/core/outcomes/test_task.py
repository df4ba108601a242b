"""From signals to verdicts: arms of several partitions, in any order, with restarts; the pause; pairs with the time before."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from pydantic import JsonValue

from core.decide.signals import SignalsTask
from core.effects import Count, DeadLetter, Emit
from core.outcomes.arms import is_held, signature
from core.outcomes.task import OutcomesTask
from core.rules.trying import a_detection_of
from schemas.definitions import CommandTemplate
from schemas.delivery import Receipt
from schemas.detections import VerdictReached
from schemas.parts import Arms, Pair, decode_part, encode_part
from schemas.registers import Signal
from tests.core.outcomes.build import (
    BEGIN,
    DAY,
    FIGURED,
    PARTITIONS,
    TOLD,
    a_catalogue,
    a_clock,
    a_day,
    a_rule,
    a_signal,
    batch,
    commands,
    fold,
    found_in,
    parts,
    rows_of,
)


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
    task = OutcomesTask(0, PARTITIONS, a_catalogue(after))
    effects = list(task.step(batch("outcome.parts", [v for told in old for v in told] + for_later)))
    last = rows_of(effects)[-1]
    assert last.rule_version == 2 and last.treated and last.held
    assert last.treated.subjects + last.held.subjects == 100, "those of the old one are another experiment"
    assert [r.version for r in rows_of(effects)] == list(range(len(rows_of(effects)))), "rows go on counting"


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
