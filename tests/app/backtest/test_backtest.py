"""The past gives what was sent, id for id, however the live system was interleaved; and what another past would have given."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.archive import Writer
from app.backtest import Wanted, backtest, compared
from app.settings import Settings
from core.definitions import Catalogue
from core.forgetting import Forgetting, digest
from core.rulebook import load_rulebook
from schemas.definitions import CommandTemplate, Forgotten, OnBand, OnEvent, OnStage, Product, Rule, Workflow
from tests.app.backtest.live import Live

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_740_960_000_000
TRIGGERS = Path(__file__).resolve().parents[3] / "rulebook" / "examples" / "triggers.yaml"
TYPE = "success.user.help"
FEATURES = ("home", "search", "cart", "checkout", "export")


def greeting(feature: str, version: int = 1, **more: Any) -> Rule:
    """A rule on a single event."""
    template = CommandTemplate(type=TYPE, title="{{ feature }}", text="{{ subject }}")
    where = {"kind": "compare", "field": "feature", "op": "==", "value": feature}
    trigger = OnEvent.model_validate({"topic": "events.usage", "where": where})
    options = {"cooldown_s": 86_400, "version": version} | more
    return Rule(name="greet", id="greet", trigger=trigger, command=template, **options)


def judged() -> list[Rule]:
    """Rules on what windows come to."""
    template = CommandTemplate(type=TYPE, title="{{ subject }}", text="{{ reason }}")
    stages = OnStage(stages=["low", "growth", "market"])
    bands = OnBand(bands=["critical", "declining", "stable", "optimal"])
    return [
        Rule(name="stage", id="stage", trigger=stages, command=template, cooldown_s=7_200),
        Rule(name="band", id="band", trigger=bands, command=template),
    ]


def asking(**first: Any) -> Workflow:
    """A run that orders, waits, and orders again."""
    order = {"type": TYPE, "title": "again", "text": "again"}
    return Workflow.model_validate(
        {
            "name": "asking",
            "id": "asking",
            "trigger": {
                "kind": "event",
                "topic": "events.usage",
                "where": {"kind": "compare", "field": "feature", "op": "==", "value": "cart"},
            },
            "start": "first",
            "lasts": "3d",
            "nodes": [
                {"kind": "act", "id": "first", "command": order, "next": "pause", **first},
                {"kind": "wait", "id": "pause", "until": {"kind": "span", "span": "2h"}, "next": "second"},
                {"kind": "act", "id": "second", "command": order},
            ],
        }
    )


def lived(seed: int, folder: Path) -> Live:
    """Four days of some people, with silences, an hour in which everything fails, and a rule changed on the second evening."""
    live = Live(2, seed, T0)
    product = Product(tenant="acme", name="shop", stage_window="1h", health_window="5m", min_target_users=1)
    live.define(product, greeting("search"), asking(), *judged(), *load_rulebook({"t": TRIGGERS.read_text()}))
    changed = False
    for n, at in enumerate(range(T0, T0 + 4 * DAY, 15 * MINUTE)):
        if at >= T0 + 45 * HOUR and not changed:
            live.define(greeting("export", 2))
            changed = True
        if T0 + 20 * HOUR < at < T0 + 26 * HOUR:
            live.now = at
            live.work(tick=True)
            continue
        user, feature = f"u{n * 7 % 23}", FEATURES[n * n % 5 if n % 11 else 2]
        body = {"id": f"e{n}", "type": "feature.used", "user": user, "feature": feature, "occurred_at": at}
        live.event("events.usage", user, body)
        request = {"id": f"r{n}", "type": "request.completed", "service": "api", "latency_ms": 9.0, "occurred_at": at}
        live.event("events.performance", "api", {**request, "error": n % 40 < 9})
        live.now += live.random.randint(0, 400)
        live.work(tick=n % 3 != 0)
    live.now += 3 * HOUR
    live.work(tick=True)
    live.work(tick=True)
    live.archive(folder)
    return live


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Live, Path]:
    """One life, and its archive."""
    folder = tmp_path_factory.mktemp("archive")
    return lived(1, folder), folder


@pytest.mark.parametrize("rows", [50, 5_000])
def test_the_past_gives_what_was_sent(past: tuple[Live, Path], rows: int) -> None:
    live, folder = past
    sent = live.sent()
    found = backtest(Wanted(str(folder), 2, processes=1, rows_a_cut=rows))
    rules = Counter(body["rule"] for body in sent.values())
    assert {"greet", "asking", "stage", "band", "example.quiet"} <= rules.keys()
    assert (found.missing, found.extra) == ([], []), (rules, found.figures())
    assert {c.version for c in found.commands if c.rule == "greet"} == {1, 2}
    assert {c.id: (c.subject, c.at) for c in found.commands} == {
        i: (b["subject"], b["issued_at"]) for i, b in sent.items()
    }
    assert not any(c.simulated for c in found.commands)


def test_a_part_of_it_is_that_part_of_what_was_sent(past: tuple[Live, Path]) -> None:
    live, folder = past
    begin, end = T0 + 2 * DAY, T0 + 3 * DAY
    found = backtest(Wanted(str(folder), 2, begin=begin, end=end, processes=2))
    assert {c.id for c in found.commands} == {i for i, b in live.sent().items() if begin <= b["issued_at"] < end}
    assert found.commands and found.missing == found.extra == []


def test_without_receipts_the_log_is_cut_from_its_first_row_on(past: tuple[Live, Path], tmp_path: Path) -> None:
    _, folder = past
    shutil.copytree(folder, tmp_path / "archive", ignore=shutil.ignore_patterns("receipts"))
    told: list[str] = []
    assert backtest(Wanted(str(tmp_path / "archive"), 2, processes=1), told.append).commands
    parts = int(told[0].split(" rows in ")[1].split()[0])
    assert 4 <= parts < 40, "a day at most each, of four days; not one for each day since 1970"


def test_other_rules_are_compared(past: tuple[Live, Path]) -> None:
    """The first version all the time; then with a longer cool-down, and without the rule."""
    _, folder = past
    first = backtest(Wanted(str(folder), 2, rules=[greeting("search"), asking()], processes=1))
    assert {c.rule for c in first.commands} == {"greet", "asking"}
    assert any(c.simulated for c in first.commands) and not all(c.simulated for c in first.commands)
    longer = backtest(Wanted(str(folder), 2, rules=[greeting("search", cooldown_s=172_800), asking()], processes=1))
    difference = compared(first.commands, longer.commands)
    runs = sum(c.rule == "asking" for c in first.commands)
    assert difference.same >= runs and difference.removed and not difference.added
    without = compared(first.commands, [c for c in first.commands if c.rule != "greet"])
    assert (without.same, len(without.removed), without.added, without.moved) == (
        runs, len(first.commands) - runs, [], []
    )  # fmt: skip


def test_a_forgotten_person_was_never_there_and_the_others_commands_stay(
    past: tuple[Live, Path], tmp_path: Path
) -> None:
    """Rules that look at single people: what windows come to is without that person afterwards."""
    live, folder = past
    sent = {i: b for i, b in live.sent().items() if b["rule"] in ("greet", "asking")}
    who = next(b["subject"] for b in sent.values() if b["rule"] == "asking")
    shutil.copytree(folder, tmp_path / "archive")
    salt, catalogue = "5a" * 32, Catalogue()
    catalogue.put(Forgotten(tenant="acme", name=digest(salt, "acme", who), of="user", salt=salt, asked_at=1))
    writer = Writer(Settings(archive_url=str(tmp_path / "archive")))
    assert sum(asyncio.run(writer.forget(p, Forgetting(catalogue))) for p in range(2)) > 10
    found = backtest(Wanted(str(tmp_path / "archive"), 2, processes=1))
    assert not any(c.subject == who for c in found.commands) and found.sent.keys() < live.sent().keys()
    assert {c.id for c in found.commands if c.rule in ("greet", "asking")} == {
        i for i, b in sent.items() if b["subject"] != who
    }


def test_a_command_that_was_never_sent_is_taken_to_be_delivered(past: tuple[Live, Path]) -> None:
    """Its run waits for the receipt, gets one, and orders again two hours later."""
    _, folder = past
    waiting = asking(wait="delivery").model_copy(update={"id": "other"})
    found = backtest(Wanted(str(folder), 2, rules=[waiting], processes=1, rows_a_cut=50))
    plain = backtest(Wanted(str(folder), 2, rules=[asking().model_copy(update={"id": "other"})], processes=1))
    assert found.commands and all(c.simulated for c in found.commands)
    assert Counter(c.step for c in found.commands) == Counter(c.step for c in plain.commands)
