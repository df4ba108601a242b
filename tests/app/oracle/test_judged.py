"""Ladders, health and commands, computed by hand."""

from __future__ import annotations

import math

from app.oracle.commands import holds, ordered
from app.oracle.figures import Figures
from app.oracle.judged import Judge, Rules
from app.oracle.ladders import STAGES, Ladder
from tests.app.oracle.logs import MIN, T0, folded, marker, request, use

P = ("t", "p")
DAY = 1440 * MIN


def ladder() -> Ladder:
    return Ladder(STAGES, (0.2, 0.6), 0.02, 10)


def climb(*values: float | None) -> list[str]:
    made, out = ladder(), []
    for k, value in enumerate(values):
        made.judge(value, k * 10)
        out.append(made.at)
    return out


def test_levels() -> None:
    level = ladder().level
    assert [level(v) for v in (None, 0.199, 0.2, 0.6, 0.601)] == ["no_data", "low", "growth", "growth", "market"]


def test_first_value_and_no_data_count_at_once() -> None:
    assert climb(0.7, None, 0.1) == ["market", "no_data", "low"]


def test_a_change_needs_the_margin_and_a_step() -> None:
    assert climb(0.1, 0.21, 0.21, 0.23, 0.23) == ["low", "low", "low", "low", "growth"]
    assert climb(0.1, 0.23, 0.1, 0.23, 0.23) == ["low", "low", "low", "low", "growth"]
    assert climb(0.5, 0.1, 0.7, 0.7) == ["growth", "growth", "growth", "market"]


def test_a_gap_between_ends_breaks_the_hold() -> None:
    made = ladder()
    made.judge(0.1, 0)
    made.judge(0.5, 10)
    assert made.judge(0.5, 30) is None
    assert made.judge(0.5, 40) == "low"


def judged() -> Judge:
    """Thirty users, ten of whom use `f` on the first day, one by a campaign; half of the requests fail, all are quick."""
    rows = [use(n, T0 + n, f"u{n}", "f" if n < 10 else None) for n in range(30)]
    rows.append(use(99, T0 + 50, "u0", "g", attribution="campaign:x"))
    requests = [request(n, T0 + n, 10, error=n % 2 == 0) for n in range(10)]
    end = marker(T0 + DAY + 2000)
    return Judge(Figures([folded([*rows, end]), folded([*requests, end], True)]), {P: Rules()})


def test_rows_stages_and_health() -> None:
    judge = judged()
    rows = judge.adoption("1d", T0 + DAY)
    assert rows[P, "f"] == {
        "users": 10,
        "events": 10,
        "target_users": 30,
        "adoption_rate": 10 / 30,
        "organic_share": 1.0,
        "stage": "growth",
        "viral": False,
    }
    assert rows[P, "g"]["stage"] == "low" and rows[P, "g"]["organic_share"] == 0.0
    health = judge.health[P, T0 + DAY]
    # reliability 0, responsiveness 100, adoption 100 (5/9 + 1/18) / 2, engagement 100: .25 .20 .20 .15 of .80
    assert math.isclose(health["score"], (20 + 0.2 * 100 * (5 / 9 + 1 / 18) / 2 + 15) / 0.8)
    assert health["band"] == "declining"
    assert judge.health[P, T0 + DAY - 60 * MIN]["score"] is None
    assert [(f.kind, f.subject) for f in judge.found] == [
        ("stage_entered", "feature:f"),
        ("stage_entered", "feature:g"),
        ("band_entered", "product:p"),
    ]


def test_commands_of_the_detections() -> None:
    rule = {
        "id": "A2.1",
        "name": "A2.1",
        "trigger": {"kind": "stage", "stages": ["growth"]},
        "condition": {"kind": "compare", "field": "users", "op": ">=", "value": 10},
        "command": {"type": "product.feature.promote"},
    }
    found = judged().found
    orders, _ = ordered(found, [rule, rule | {"id": "A2.2", "name": "A2.2", "ceiling_per_hour": 1}])
    assert [(o.rule, o.found.subject) for o in orders] == [("A2.1", "feature:f"), ("A2.2", "feature:f")]
    assert len({o.id for o in orders}) == 2
    again, suppressed = ordered([found[0], found[0]], [rule | {"cooldown_s": 60}])
    assert len(again) == 1 and suppressed == {"cooldown": 1}


def test_conditions() -> None:
    facts = {"a": 1.0, "b": {"c": "x"}, "d": None}
    compare = {"kind": "compare", "field": "b.c", "op": "starts_with", "value": "x"}
    assert holds({"kind": "all", "of": [compare, {"kind": "compare", "field": "d", "op": "missing"}]}, facts)
    assert not holds({"kind": "not", "of": compare}, facts)
    assert holds({"kind": "any", "of": [{"kind": "compare", "field": "a", "op": ">", "value": 0.5}]}, facts)
