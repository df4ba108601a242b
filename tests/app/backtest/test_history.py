"""A past with all that pasts have: receipts that runs wait for, people who change, definitions in other words midway."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from app.backtest import Wanted, backtest
from schemas.definitions import Product
from tests.app.backtest.live import Live
from tests.app.backtest.words import DAY, HOUR, MINUTE, days, words

T0 = 1_740_960_000_000
DAYS, MIDDLE = 12, 6


def lived(seed: int, folder: Path, last: int = DAYS, step: int = 30 * MINUTE) -> Live:
    """Days of some people; receipts come between their events."""
    live = Live(2, seed, T0)
    live.define(Product(tenant="acme", name="shop", stage_window="1d"), *words(0))
    changed = False
    for n, (topic, event) in enumerate(days(T0, 0, last, step)):
        at = event["occurred_at"]
        if at >= T0 + MIDDLE * DAY and not changed:
            live.answer(at - MINUTE)
            live.define(*(d.model_copy(update={"version": 2}) for d in words(1)))
            changed = True
        live.answer(at)
        about = str(event.get("user") or event["contact"])
        live.event(topic, about, {"id": f"e{n}", **event})
        live.now += live.random.randint(0, 400)
        live.work(tick=n % 3 != 0)
    live.answer(live.now + 5 * HOUR)
    live.now += 5 * HOUR
    live.work(tick=True)
    live.work(tick=True)
    live.archive(folder)
    return live


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Live, Path]:
    """One life, and its archive."""
    folder = tmp_path_factory.mktemp("history")
    return lived(1, folder), folder


@pytest.mark.parametrize("rows", [50, 100_000])
def test_the_past_is_as_it_was_however_it_is_cut(history: tuple[Live, Path], rows: int) -> None:
    live, folder = history
    found = backtest(Wanted(str(folder), 2, processes=1, rows_a_cut=rows))
    then = Counter((b["rule"], b["rule_version"], b["step"]) for b in live.sent().values())
    here = Counter((c.rule, c.version, c.step) for c in found.commands)
    assert {rule for rule, _, _ in then} == {"greet", "customers", "spending", "every-hour", "courting", "asking"}
    assert {step for rule, _, step in then if rule == "asking"} == {
        "first",
        "ask",
        "thank",
        "offer",
        "repair",
        "call",
        "visit",
    }
    assert (then - here, here - then) == (Counter(), Counter())
    assert {c.id for c in found.commands} == live.sent().keys()
    assert not any(c.simulated for c in found.commands)


def test_from_the_middle_it_is_the_same_from_then_on(tmp_path: Path) -> None:
    """Usage is read from the tenth day on; of the first people nothing was said since then."""
    live, begin = lived(2, tmp_path, 50, 3 * HOUR), T0 + 42 * DAY
    found = backtest(Wanted(str(tmp_path), 2, begin=begin, processes=1))
    then = {i: b["rule"] for i, b in live.sent().items() if b["issued_at"] >= begin}
    assert {c.id: c.rule for c in found.commands} == then
    early = [b for b in live.sent().values() if b["rule"] == "customers" and b["issued_at"] >= begin]
    assert any(int(b["subject"].removeprefix("user:u")) < 8 for b in early)
    assert found.rows < 45 * 8
