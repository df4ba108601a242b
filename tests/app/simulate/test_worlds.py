"""The worlds of `uptake coverage` acted out in one process: what is planted fires with the oracle's figures, twins stay silent."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.acting_out import HOUR_MS, played
from app.coverage import World, rows_beside, rows_of
from app.oracle.commands import Ordered, ordered
from app.oracle.figures import Figures
from app.oracle.foresight import foreseen as foresee
from app.oracle.judged import Judge
from app.oracle.partition import Partition
from app.simulate import foreseen, ladders, reported
from app.simulate.beside import Planted, planted
from core.rulebook import examples, load_rulebook, trips
from schemas.definitions import Campaign, Definition, Prediction, Rule, Segment, Workflow
from tests.app.simulate.line import Line

ROOT = Path(__file__).parents[3] / "rulebook"
TEXTS = {str(p.relative_to(ROOT)): p.read_text() for p in sorted(ROOT.rglob("*.yaml"))}
DEFINITIONS = load_rulebook(TEXTS)
DAY = reported.DAY


def judged(test: Planted, until: int) -> Judge:
    """Events in order of time, a marker before each day as when they are acted out, up to this moment."""
    parts = {(p, n): Partition(p, n) for p in (False, True) for n in range(2)}
    broker, told = until + 30 * reported.DAY, 0

    def mark(at: int) -> None:
        word = {"type": "uptake.replay.progressed", "id": f"m{at}", "replay": "r", "at": at, "act": True}
        for part in parts.values():
            part.add(json.dumps(word).encode(), [], broker)

    for event in (e for e in test.events if e.at < until):
        if event.at // reported.DAY != told:
            told = event.at // reported.DAY
            mark(event.at)
        if event.topic not in ("events.usage", "events.performance"):
            continue
        performance = event.topic == "events.performance"
        parts[performance, zlib.crc32(event.key) % 2].add(event.value, [], broker)
    mark(until)
    return Judge(Figures([part.folded() for part in parts.values()]), ratings=reported.ratings(test))


def test_interventions_go_up_by_deadline_and_end_where_the_metric_moves() -> None:
    """As `uptake coverage` acts it out, without a broker: every figure and time is the oracle's, and the twins stay silent."""
    test = ladders.planted()
    line = Line(d for d in DEFINITIONS if d.name.startswith(("intervention-", "H-")))
    line.act_out([test], ladders.RESTS)
    found: list[ladders.Judged] = [*judged(test, ladders.START_MS + ladders.DAYS * DAY).found]
    found += ladders.crossings(test.events)
    for ladder in ladders.LADDERS:
        ours = [c for c in line.commands if c["rule"] == ladder.workflow]
        assert ladders.differences(ladder, ours, found) == []
        assert {c["product"] for c in ours} == {ladder.stays, ladder.moves}
    workflows = {d.id: d for d in DEFINITIONS if isinstance(d, Workflow)}
    steps = {step.node for ladder in ladders.LADDERS for step in rows_of(workflows[ladder.workflow])}
    assert {c["step"].partition("~")[0] for c in line.commands} == steps


def test_every_row_of_reports_fires_for_the_product_alone_with_the_oracles_figures() -> None:
    test, receipts = reported.planted(1), reported.receipts()
    line = Line([*(d for d in DEFINITIONS if isinstance(d, Rule) and "outcome" in d.tags), reported.TRIAL])
    line.hear("receipts", receipts)
    line.act_out([test], reported.RESTS)
    assert reported.differences(line.commands, judged(test, test.until), receipts) == {}
    ours = [c for c in line.commands if c["rule"] != reported.TRIAL.id]
    assert {c["rule"] for c in ours} == set(reported.ROWS) and {c["product"] for c in ours} == {reported.PRODUCT}


def foreseen_by_the_oracle(test: Planted, definitions: Iterable[Definition]) -> list[Ordered]:
    part, broker = Partition(False, 0), test.until + 30 * DAY

    def mark(kind: str, at: int, products: list[tuple[str, str]]) -> None:
        word = {"type": f"uptake.replay.{kind}", "id": f"m{at}", "replay": "r", "at": at, "act": True}
        part.add(json.dumps(word | {"products": products}).encode(), [], broker)

    mark("begun", test.events[0].at, sorted({(test.tenant, e.body["product"]) for e in test.events}))
    for event in test.events:
        part.add(event.value, [], broker)
    mark("progressed", test.until + HOUR_MS, [])
    said: dict[str, list[dict[str, Any]]] = {"prediction": [], "rule": []}
    for definition in definitions:
        said[definition.kind].append(json.loads(definition.model_dump_json()))
    return ordered(foresee([part.folded()], said["prediction"]), said["rule"])[0]


def test_who_leaves_and_who_is_keen_is_foreseen_as_the_oracle_foresees_it_and_who_is_not_is_not() -> None:
    test = foreseen.planted(1)
    definitions = [d for d in DEFINITIONS if isinstance(d, Prediction) or d.name in foreseen.ROWS]
    line = Line(definitions)
    line.act_out([test], ())
    wanted = foreseen_by_the_oracle(test, definitions)
    assert foreseen.differences(line.commands, test.events, wanted) == {row: [] for row in foreseen.ROWS}
    for row, (with_it, without) in foreseen.WHO.items():
        who = {c["subject"] for c in line.commands if c["rule"] == row and c["product"] == foreseen.WHERE[row]}
        assert f"user:{with_it}" in who and f"user:{without}" not in who, row
    spoilt = json.loads(json.dumps(line.commands))
    for command in spoilt:
        command["payload"]["probability"] += 0.00001
    spoilt.pop(next(i for i, c in enumerate(spoilt) if c["rule"] == "P1.churn-risk"))
    wrong = foreseen.differences(spoilt, test.events, wanted)
    assert all(len(wrong[row]) >= sum(c["rule"] == row for c in spoilt) for row in foreseen.ROWS)
    assert any("is not given" in text for text in wrong["P1.churn-risk"])


def test_every_test_beside_a_rule_or_workflow_comes_out_when_its_events_are_read() -> None:
    tests = list(planted(examples(TEXTS), trips(TEXTS)))
    about = {t.of for t in tests}
    line = Line(
        d
        for d in DEFINITIONS
        if (isinstance(d, (Rule, Workflow)) and d.id in about) or isinstance(d, (Segment, Campaign))
    )
    line.act_out(tests)
    outcome = played(tests, line.commands)
    assert [text for play in outcome for text in play.differences] == []
    rows = rows_beside(DEFINITIONS, outcome, World(line.commands, {c["id"]: c for c in line.commands}, {}))
    assert [row.line() for row in rows if not row.good] == []
    families = {row.id.partition(".")[0] for row in rows}
    assert {
        "P1",
        "P2",
        "P3",
        "P4",
        "P10",
        *(f"J{n}" for n in range(1, 14)),
        *(f"E{n}" for n in range(1, 8)),
    } == families
