"""Visitors who log in, through METER, DECIDE and ORCHESTRATE: one log gives the same commands, and the past gives what was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.backtest import Wanted, backtest
from schemas.definitions import Product, Workflow
from tests.app.backtest.live import Live

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_740_960_000_000
VISITORS = 40
FIELDS = ("rule", "issued_at", "step", "subject")


def order(name: str) -> dict[str, Any]:
    return {"type": f"success.user.{name}", "title": "{{ subject }}", "text": "{{ contact.fields.plan | default('') }}"}


def cart(name: str, asks: bool) -> Workflow:
    """An abandoned cart: who buys within two hours is thanked, who does not is reminded. `asks`: for the person's plan."""
    said = [{**order(x), "text": order(x)["text"] if asks else ""} for x in ("hello", "thanks", "again")]
    return Workflow.model_validate(
        {
            "name": name,
            "id": name,
            "trigger": {"kind": "event", "topic": "events.usage", "where": "feature == 'cart'"},
            "events": {"bought": {"topic": "events.commerce", "where": "type == 'purchase.completed'"}},
            "start": "hello",
            "nodes": [
                {"kind": "act", "id": "hello", "command": said[0], "wait": "delivery", "next": "buys"},
                {"kind": "await", "id": "buys", "events": {"bought": "thanks"}, "timeout": "2h", "timed_out": "again"},
                {"kind": "act", "id": "thanks", "command": said[1]},
                {"kind": "act", "id": "again", "command": said[2]},
            ],
        }
    )


def lived(seed: int) -> Live:
    """Visitors, each with a cart; some log in, some buy. `seed`: in which order and how many at once the topics are read."""
    live = Live(3, seed, T0)
    live.define(Product(tenant="acme", name="shop"), cart("plain", False), cart("asking", True))
    told: list[tuple[int, str, dict[str, Any]]] = []
    for n in range(VISITORS):
        at, anon, user = T0 + n * 7 * MINUTE, f"anon{n}", f"u{n}"
        told.append((at, "events.usage", {"type": "feature.used", "user": anon, "feature": "cart"}))
        if n % 2 == 0:
            plan = {"type": "contact.updated", "contact": user, "fields": {"plan": f"p{n % 3}"}}
            told.append((at + 2 * MINUTE, "events.contacts", plan))
        if n % 4 < 3:
            aliased = {"type": "contact.aliased", "contact": user, "former": anon}
            told.append((at + 30 * MINUTE, "events.contacts", aliased))
            told.append((at + 40 * MINUTE, "events.usage", {"type": "feature.used", "user": user, "feature": "cart"}))
        if n % 4 < 2:
            bought = {"type": "purchase.completed", "user": user, "amount": 5, "order": f"o{n}"}
            told.append((at + 60 * MINUTE, "events.commerce", bought))
    for n, (at, topic, body) in enumerate(sorted(told, key=lambda t: t[0])):
        about = str(body.get("user") or body.get("contact"))
        live.answer(at)
        live.event(topic, about, {"id": f"e{n}", "occurred_at": at, **body})
        request = {"id": f"r{n}", "type": "request.completed", "service": "api", "latency_ms": 9.0, "occurred_at": at}
        live.event("events.performance", "api", request)
        live.work(tick=True)
    for _ in range(12):
        live.now += HOUR
        live.answer(live.now)
        live.work(tick=True)
    return live


@pytest.fixture(scope="module")
def one() -> Live:
    """A life."""
    return lived(1)


def test_who_logs_in_and_buys_is_thanked_once_and_reminded_never(one: Live) -> None:
    for rule in ("plain", "asking"):
        mine = sorted((c[3], c[2]) for c in one.told(*FIELDS).values() if c[0] == rule)
        wanted = [(f"user:anon{n}", "hello") for n in range(VISITORS)]
        for n in range(VISITORS):
            wanted.append((f"user:u{n}" if n % 4 < 3 else f"user:anon{n}", "thanks" if n % 4 < 2 else "again"))
        assert mine == sorted(wanted)


def test_it_depends_on_no_order_of_reading(one: Live) -> None:
    assert lived(2).told(*FIELDS) == one.told(*FIELDS) == lived(3).told(*FIELDS)


def test_the_past_gives_what_was_sent(one: Live, tmp_path: Path) -> None:
    one.archive(tmp_path)
    for rows in (100_000, 30):
        result = backtest(Wanted(str(tmp_path), 3, processes=1, rows_a_cut=rows))
        found = {c.id: (c.rule, c.at, c.step, c.subject) for c in result.commands}
        assert found == one.told(*FIELDS)
