"""What a plan says of definitions by the days before: by commands counted by hand, and by a past that was lived."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.archive import ArchiveError
from app.backtest import Ordered, Result
from app.cli.common import FAILED, Refusal
from app.cli.root import build
from app.impact import DAY_MS, Impact, impacts, weighed
from schemas.definitions import CommandTemplate, Product, Rule
from tests.app.backtest.live import Live

T0 = 1_740_960_000_000
HOUR = 3_600_000


def rule(name: str, type_: str = "success.user.help", where: str = "feature == 'search'", **more: Any) -> Rule:
    body = {
        "name": name,
        "id": name.upper(),
        "trigger": {"kind": "event", "topic": "events.usage", "where": where},
        "command": CommandTemplate(type=type_, title="t", text="t"),
        **more,
    }
    return Rule.model_validate(body)


def ordered(rule_: str, at: int, subject: str = "user:u", type_: str = "success.user.help", **more: Any) -> Ordered:
    name = f"{rule_}{at}{subject}{sorted(more.items())}"
    return Ordered(name, more.pop("tenant", "acme"), rule_, 1, type_, subject, name, "", at, True, **more)


def of(commands: list[Ordered], *planned: Rule, held: dict[tuple[str, str], int] | None = None) -> list[Impact]:
    return weighed(Result(commands=commands, suppressed=held or {}), planned, 2.0)


def test_how_much_for_whom_and_what_is_held_back() -> None:
    commands = [ordered("A", T0 + n * HOUR, f"user:{n % 3}") for n in range(30)]
    (found,) = of(commands, rule("a"), held={("A", "cooldown"): 4, ("B", "ceiling"): 9})
    assert (found.commands, found.most, found.subjects, found.held) == (30, 24, 3, {"cooldown": 4})
    assert found.lines() == [
        "rule a: 30 commands in 2.0 days (15.0 a day, 24 at most), to 3 subjects",
        "  held back: 4 cooldown",
    ]


def test_nothing_is_told_of_a_rule_that_orders_nothing() -> None:
    (found,) = of([ordered("B", T0)], rule("a"))
    assert found.lines() == ["rule a: 0 commands in 2.0 days (0.0 a day, 0 at most), to 0 subjects"]


def test_who_else_meets_its_subjects_within_a_day() -> None:
    commands = [
        *(ordered("A", T0, f"user:{n}") for n in range(4)),
        ordered("B", T0 + DAY_MS, "user:0"),
        ordered("B", T0 - DAY_MS, "user:1"),
        ordered("B", T0 + DAY_MS + 1, "user:2"),
        ordered("B", T0, "user:3", tenant="other"),
        ordered("C", T0, "user:0"),
    ]
    (found,) = of(commands, rule("a"))
    assert [(o.rule, o.subjects) for o in found.overlaps] == [("B", 2), ("C", 1)]
    assert found.lines()[1] == "  overlap: B orders for 2 of them within a day (50%)"


def test_opposites_about_a_subject_and_two_values_of_a_flag() -> None:
    commands = [
        ordered("A", T0, type_="product.rollout.pause"),
        ordered("B", T0 + HOUR, type_="product.rollout.resume"),
        ordered("A", T0, "feature:x", writes="beta=open"),
        ordered("C", T0 + HOUR, "product:shop", writes="beta=close"),
        ordered("D", T0 + HOUR, "product:shop", writes="beta=open"),
        ordered("A", T0, "user:v", writes="dark=on"),
        ordered("E", T0, "user:w", writes="dark=off"),
    ]
    (found,) = of(commands, rule("a"))
    assert [(c.rule, c.subjects) for c in found.conflicts] == [("B", 1), ("C", 1)]
    assert found.lines()[-2:] == [
        "  conflict: it orders product.rollout.pause where B orders product.rollout.resume, for 1 subjects within a day",
        "  conflict: it sets flag beta to open where C sets it to close, for 1 subjects within a day",
    ]
    assert found.figures()["conflicts"][0]["rule"] == "B"


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 60), st.integers(0, 3)), max_size=25, unique=True))
def test_overlaps_are_those_of_a_plain_search(met: list[tuple[str, int, int]]) -> None:
    (found,) = of([ordered(r, T0 + h * HOUR, f"user:{u}") for r, h, u in met], rule("a"))
    plain: defaultdict[str, set[int]] = defaultdict(set)
    for mine, hour, user in met:
        for other, then, theirs in met:
            if mine == "A" and other != "A" and user == theirs and abs(hour - then) <= 24:
                plain[other].add(user)
    assert {o.rule: o.subjects for o in found.overlaps} == {r: len(who) for r, who in plain.items()}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day of four people who search, with a rule in force that helps them once a day."""
    folder = tmp_path_factory.mktemp("archive")
    live = Live(1, 1, T0)
    live.define(Product(tenant="acme", name="shop"), rule("helps", cooldown_s=86_400), rule("old"))
    for n in range(48):
        at = T0 + n * HOUR // 2
        body = {"id": f"e{n}", "type": "feature.used", "user": f"u{n % 4}", "occurred_at": at}
        live.event("events.usage", f"u{n % 4}", {**body, "feature": "search" if n % 2 else "export"})
        live.work(tick=n % 3 == 0)
    live.now += 3 * HOUR
    live.work(tick=True)
    live.work(tick=True)
    live.archive(folder)
    return folder


PLANNED = """\
definitions:
- kind: rule
  name: old
  id: OLD
  trigger: {kind: event, topic: events.usage, where: 'feature == "export"'}
  command: {type: success.user.leave, title: t, text: t}
- kind: rule
  name: new
  id: NEW
  trigger: {kind: event, topic: events.usage, where: 'feature == "search"'}
  command: {type: success.user.write, title: t, text: t}
"""


def test_a_plan_is_weighed_with_what_is_in_force(lived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPTAKE_ARCHIVE_URL", str(lived))
    monkeypatch.setenv("UPTAKE_PARTITIONS", "1")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "rules.yaml"
    file.write_text(PLANNED)
    result = CliRunner().invoke(build("plan"), ["plan", str(file), "--days", "7", "--json"])
    assert result.exit_code == 0, result.output
    old, new = (json.loads(text)["impact"] for text in result.stdout.splitlines())
    assert (old["commands"], old["subjects"], old["overlaps"]) == (24, 2, []), "the planned one, not that in force"
    assert (new["commands"], new["subjects"]) == (24, 2)
    assert new["overlaps"] == [{"rule": "HELPS", "subjects": 2}] and 0.9 < new["days"] < 1.2


def test_an_archive_without_events_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArchiveError):
        impacts(str(tmp_path), 1, [rule("a")], 7)
    monkeypatch.setenv("UPTAKE_ARCHIVE_URL", str(tmp_path / "none"))
    file = tmp_path / "rules.yaml"
    file.write_text(PLANNED)
    result = CliRunner().invoke(build("plan"), ["plan", str(file), "--days", "7"])
    assert isinstance(result.exception, Refusal) and result.exception.code == FAILED
