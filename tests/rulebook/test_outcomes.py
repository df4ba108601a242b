"""I1–I3 from raw events: METER's fold, DECIDE's three tasks, receipts of deliveries; what happened stands in the numbers."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.batch import Batch
from core.decide.signals import SignalsTask
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.meter.others import OthersTask
from core.meter.task import MeterTask
from core.outcomes.arms import is_held
from core.outcomes.task import OutcomesTask
from core.rulebook import load_rulebook
from schemas.definitions import CommandTemplate, Rule
from schemas.events import OTHERS
from schemas.registers import SOURCES
from tests.helpers.words import a_batch

ROOT = Path(__file__).parents[2] / "rulebook"
MONDAY, MINUTE, HOUR, DAY = 1_767_571_200_000, 60_000, 3_600_000, 86_400_000
DAYS, USERS = 22, 40
TRIAL = Rule.model_validate(
    {
        "name": "trial",
        "id": "trial",
        "trigger": {"kind": "event", "topic": "events.usage", "where": 'type == "trial.ending"'},
        "holdout": 0.5,
        "command": CommandTemplate(type="sales.offer.send", title="t", text="t"),
        "outcome": {
            "metric": {"kind": "conversion", "where": 'type == "purchase.completed"', "value": "amount"},
            "within_s": 7_200,
        },
    }
)
HELD = [is_held("acme", "trial", f"user:u{u}", 0.5) for u in range(USERS)]


class Line:
    """The tasks of one partition, each fed with what the others tell."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.meter, self.others = MeterTask(0, 1, catalogue), OthersTask(0, 1, catalogue, max_ids=100_000)
        self.tasks = {
            "meter.registers": RegistersTask(0, 1, catalogue, sources=SOURCES),
            "signals": SignalsTask(0, 1, catalogue),
            "outcome.parts": OutcomesTask(0, 1, catalogue),
        }
        self.tasks["receipts"] = self.tasks["outcome.parts"]
        self.offsets: defaultdict[str, int] = defaultdict(int)
        self.commands: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []

    def events(self, topic: str, rows: list[dict[str, Any]], now: int) -> None:
        """Rows of one source; all that follows from them."""
        task = self.others if topic in OTHERS else self.meter
        self._do(task.step(self._batch(topic, [json.dumps(row).encode() for row in rows], now)), now)

    def rest(self, now: int) -> None:
        """The topics beside usage and performance have been read to their end."""
        self._do(self.others.tick(now, [(topic, 0) for topic in OTHERS]), now)

    def _batch(self, topic: str, values: list[bytes], now: int) -> Batch:
        first, n = self.offsets[topic], len(values)
        self.offsets[topic] += n
        return a_batch(topic, values, first=first, at=now)

    def _do(self, effects: Any, now: int) -> None:
        told: defaultdict[str, list[bytes]] = defaultdict(list)
        for effect in effects:
            if not isinstance(effect, Emit) or effect.value is None:
                continue
            if effect.topic in self.tasks:
                told[effect.topic].append(effect.value)
            if effect.topic == "detections" and b'"outcome_report"' in effect.value:
                self.reports.append(json.loads(effect.value))
            if effect.topic.startswith("commands."):
                told["receipts"].append(self._delivered(json.loads(effect.value), now))
        # METER writes signals with, or before, the registers that say how far event time is
        for topic, values in sorted(told.items(), key=lambda t: t[0] != "signals"):
            more: list[Effect] = list(self.tasks[topic].step(self._batch(topic, values, now)))
            self._do(more, now)

    def _delivered(self, command: dict[str, Any], now: int) -> bytes:
        """A receipt: in the second week deliveries take longer."""
        self.commands.append(command)
        took = 400 if command["issued_at"] < MONDAY + 14 * DAY else 1_500
        words = {k: command[k] for k in ("tenant", "product", "rule", "issued_at")}
        return json.dumps({**words, "status": "delivered", "final": True, "at": command["issued_at"] + took}).encode()


@pytest.fixture(scope="module")
def line() -> Line:
    """Three weeks: in the third one people come more often, and requests are answered faster."""
    catalogue = Catalogue()
    catalogue.put(TRIAL)
    for definition in load_rulebook({p.name: p.read_text() for p in sorted((ROOT / "I").rglob("*.yaml"))}):
        catalogue.put(definition)
    made, rng, number = Line(catalogue), np.random.default_rng(3), 0
    for hour in range(DAYS * 24):
        now, better = MONDAY + hour * HOUR, hour >= 14 * 24
        used: list[dict[str, Any]] = []
        asked: list[dict[str, Any]] = []
        common = {"tenant": "acme", "product": "shop"}
        for minute in range(0, 60, 15):
            at = now + minute * MINUTE
            those = range(USERS) if better else range(hour // 24 % 5 * 8, hour // 24 % 5 * 8 + 8)
            for user in rng.choice(those, 8 if better else 3, replace=False).tolist():
                number += 1
                word = {
                    "id": f"e{number}",
                    "type": "feature.used",
                    "user": f"u{user}",
                    "feature": "f" if better else "g",
                }
                used.append({**common, **word, "occurred_at": at})
            latency = 100 if better or minute else 2_000
            word = {"id": f"r{number}", "type": "request.completed", "service": "api", "status": 200}
            asked.append({**common, **word, "latency_ms": latency, "occurred_at": at})
        if hour % 12 == 5 and hour // 12 < USERS:
            user = hour // 12
            word = {"user": f"u{user}", "feature": "f"}
            ending = {"id": f"t{user}", "type": "trial.ending", "probability": 0.25, **word, "occurred_at": now + 1_000}
            used.append({**common, **ending})
            if not HELD[user]:
                bought = {"id": f"p{user}", "type": "purchase.completed", "amount": 50, **word}
                used.append({**common, **bought, "occurred_at": now + 30 * MINUTE})
        used.sort(key=lambda row: row["occurred_at"])
        if hour % 6 == 0:
            word = {"id": f"s{hour}", "type": "rating.given", "user": f"u{hour % USERS}", "occurred_at": now}
            made.events("events.feedback", [{**common, **word, "rating": 5 if better else 3}], now + HOUR)
        made.rest(now + HOUR)
        made.events("events.performance", asked, now + HOUR)
        made.events("events.usage", used, now + HOUR)
    return made


def by(line: Line, rule: str) -> list[dict[str, Any]]:
    return [c for c in line.commands if c["rule"] == rule]


def test_every_row_fires(line: Line) -> None:
    fired = {c["rule"] for c in line.commands if c["rule"].startswith("I")}
    rows = {f"I{group}.{n}" for group in (1, 2, 3) for n in (1, 2, 3, 4)}
    assert fired == rows
    assert all(task.actor.books.difference == 0 for topic, task in line.tasks.items() if topic != "receipts")


def test_numbers_are_those_of_what_happened(line: Line) -> None:
    (last,) = [c for c in by(line, "I2.4") if c["issued_at"] == MONDAY + 21 * DAY]
    treated = HELD.count(False)
    assert last["payload"]["gain"] == pytest.approx(50 * treated), "nobody who was held out bought anything"
    (learnt,) = by(line, "I3.1")
    assert learnt["payload"]["verdict"] == "working" and learnt["payload"]["uplift"]["estimate"] == pytest.approx(1)
    assert learnt["payload"]["uplift"]["low"] > 0
    forecast = next(c for c in by(line, "I3.4") if c["issued_at"] == MONDAY + 21 * DAY)["payload"]["calibration"]
    assert forecast == {"subjects": HELD.count(True), "predicted": 0.25, "observed": 0.0, "brier": 0.0625}
    offers = [c for c in line.commands if c["rule"] == "trial"]
    assert {c["subject"] for c in offers} == {f"user:u{u}" for u in range(USERS) if not HELD[u]}


def test_what_moved_is_beside_the_week_before(line: Line) -> None:
    def measured(rule: str) -> dict[str, Any]:
        found = [c for c in by(line, rule) if c["issued_at"] == MONDAY + 21 * DAY]
        assert found[0]["payload"]["period"] == {"from": MONDAY + 14 * DAY, "to": MONDAY + 21 * DAY}
        return dict(found[0]["payload"]["measured"])

    faster = measured("I1.4")
    assert faster["low"] > 0 and faster["before"] == pytest.approx(75, abs=2) and faster["after"] > 90
    assert measured("I1.2")["low"] > 0 and measured("I1.3")["days_after"] == 7
    assert measured("I2.1")["difference"] > 0
    happier = measured("I2.2")
    # 3 stars are 50 points, 5 are 100; the first day of the third week still has the last ratings of the second.
    assert happier["before"] == 50 and happier["days_before"] == happier["days_after"] == 7 and happier["after"] == 100


def test_response_times_are_those_of_the_receipts(line: Line) -> None:
    report = next(r for r in line.reports if r["at"] == MONDAY + 21 * DAY)
    assert report["response_before"]["p50_ms"] == pytest.approx(400, rel=0.1)
    assert report["response"]["p50_ms"] == pytest.approx(1_500, rel=0.1)
    (slower,) = [c for c in by(line, "I3.3") if c["issued_at"] == MONDAY + 21 * DAY]
    assert slower["payload"]["faster"] is False
