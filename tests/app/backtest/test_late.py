"""What comes late is late in the past as it was live: METER says so, and nobody's batches, cuts or clocks change it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.backtest import Wanted, backtest
from schemas.definitions import CommandTemplate, Product, Rule
from tests.app.backtest.live import Live

MINUTE = 60_000
T0 = 1_740_960_000_000
SEARCH, BUY = ({"topic": "events.usage", "where": f'feature == "{f}"'} for f in ("search", "buy"))
PAID = {"topic": "events.commerce", "where": 'type == "purchase.completed"'}
TRIGGERS: dict[str, dict[str, Any]] = {
    "count": {"kind": "count", **SEARCH, "times": 3, "within_s": 60},
    "sequence": {"kind": "sequence", "steps": [SEARCH, PAID], "within_s": 30},
    "absence": {"kind": "absence", "first": SEARCH, "then": BUY, "within_s": 20},
    "undone": {"kind": "absence", "first": SEARCH, "then": PAID, "within_s": 15},
    "quiet": {"kind": "inactivity", **BUY, "after_s": 90},
    "profile": {"kind": "event", **BUY},
}
MORE: dict[str, dict[str, Any]] = {
    "undone": {
        "late": "compensate",
        "undo": CommandTemplate(type="success.user.leave", title="t", text="{{ reason }}"),
    },
    "profile": {"condition": "contact.purchases >= 3", "cooldown_s": 60},
    "count": {"cooldown_s": 300},
}


def rules() -> list[Rule]:
    """One of each trigger that remembers, and one that looks at profiles."""
    command = CommandTemplate(type="success.user.help", title="t", text="{{ reason }}")
    return [
        Rule.model_validate({"name": n, "id": n, "trigger": t, "command": command, **MORE.get(n, {})})
        for n, t in TRIGGERS.items()
    ]


def lived(seed: int, folder: Path) -> Live:
    """An hour of seven people, a third of whose events come up to forty seconds late."""
    live, random = Live(2, seed, T0), Random(seed)
    live.define(Product(tenant="acme", name="shop"), *rules())
    for n in range(1_500):
        at = T0 + n * 2_400 - (random.randint(0, 40_000) if random.random() < 0.3 else 0)
        user = f"u{random.randint(0, 6)}"
        live.now = max(live.now + 1, T0 + n * 2_400)
        if random.random() < 0.3:
            body = {"type": "purchase.completed", "order": f"o{n}", "amount": 1.5, "currency": "EUR"}
            live.event("events.commerce", user, {"id": f"c{n}", "user": user, "occurred_at": at, **body})
        else:
            feature = random.choice(("search", "buy"))
            body = {"type": "feature.used", "feature": feature, "user": user}
            live.event("events.usage", user, {"id": f"e{n}", "occurred_at": at, **body})
        if random.random() < 0.4:
            live.now += 1
            live.work(tick=random.random() < 0.7)
    live.now += 10 * MINUTE
    live.work(tick=True)
    live.work(tick=True)
    live.archive(folder)
    return live


@pytest.mark.parametrize("seed", [1, 2])
def test_what_came_late_is_late_in_the_past(seed: int, tmp_path: Path) -> None:
    sent = {i: b["rule"] for i, b in lived(seed, tmp_path).sent().items()}
    assert set(TRIGGERS) == set(sent.values())
    for rows in (20, 300, 100_000):
        found = backtest(Wanted(str(tmp_path), 2, processes=1, rows_a_cut=rows))
        assert {c.id: c.rule for c in found.commands} == sent, rows
