"""Workflows that ask for profiles: the same log gives the same commands, however it is read, and the past gives what was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.backtest import Wanted, backtest
from schemas.definitions import Product, Segment, Workflow
from tests.app.backtest.live import Live

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_740_960_000_000
ORDER = {
    "type": "success.user.help",
    "title": "{{ contact.fields.plan | default('none') }}",
    "text": "{{ contact.purchases }} {{ contact.tags }} {{ segments }}",
}
FIELDS = ("issued_at", "step", "title", "text")


def flow() -> Workflow:
    """Who searches and has a tag is written to, again when a purchase came or a day has passed."""
    bought = {"kind": "await", "id": "bought", "events": {}, "when": "contact.purchases > 1", "met": "thanks"}
    return Workflow.model_validate(
        {
            "name": "people",
            "id": "people",
            "trigger": {"kind": "event", "topic": "events.usage", "where": "feature == 'search'"},
            "condition": "'lead' in contact.tags",
            "reentry_after": "6h",
            "lasts": "3d",
            "start": "first",
            "nodes": [
                {"kind": "act", "id": "first", "command": ORDER, "next": "bought"},
                {**bought, "timeout": "1d", "timed_out": "again"},
                {"kind": "act", "id": "thanks", "command": ORDER},
                {"kind": "act", "id": "again", "command": ORDER},
            ],
        }
    )


def lived(seed: int) -> Live:
    """Two days of some people; `seed`: in which order and how many at once the topics are read."""
    live = Live(2, seed, T0)
    busy = {"kind": "compare", "field": "contact.purchases", "op": ">", "value": 2}
    live.define(
        Product(tenant="acme", name="shop"),
        Segment(tenant="acme", name="busy", product="shop", of="user", where=busy),  # type: ignore[arg-type]
        flow(),
    )
    for n, at in enumerate(range(T0, T0 + 2 * DAY, 10 * MINUTE)):
        user = f"u{n * 7 % 11}"
        told: list[tuple[str, dict[str, Any]]] = [
            ("events.usage", {"type": "feature.used", "user": user, "feature": "search"})
        ]
        if n % 3 == 0:
            told.append(("events.contacts", {"type": "contact.tagged", "contact": user, "tags": ["lead", f"t{n % 5}"]}))
        if n % 4 == 1:
            told.append(
                ("events.commerce", {"type": "purchase.completed", "user": f"u{n % 3}", "amount": 5, "order": f"o{n}"})
            )
        if n % 5 == 2:
            told.append(
                ("events.contacts", {"type": "contact.updated", "contact": user, "fields": {"plan": f"p{n % 3}"}})
            )
        for k, (topic, body) in enumerate(told):
            about = str(body.get("user") or body.get("contact"))
            live.event(topic, about, {"id": f"e{n}-{k}", "occurred_at": at + k * 300, **body})
        request = {"id": f"r{n}", "type": "request.completed", "service": "api", "latency_ms": 9.0, "occurred_at": at}
        live.event("events.performance", "api", request)
        live.work(tick=True)
    live.now += 3 * HOUR
    live.work(tick=True)
    live.work(tick=True)
    return live


@pytest.fixture(scope="module")
def one() -> Live:
    """A life."""
    return lived(1)


def test_it_depends_on_no_order_of_reading(one: Live) -> None:
    found = one.told(*FIELDS)
    assert {step for _, step, *_ in found.values()} == {"first", "thanks", "again"} and len(found) > 50
    assert any("busy" in text for *_, text in found.values()) and len({title for *_, title, _ in found.values()}) > 2
    assert found == lived(2).told(*FIELDS)


def test_the_past_gives_what_was_sent(one: Live, tmp_path: Path) -> None:
    one.archive(tmp_path)
    result = backtest(Wanted(str(tmp_path), 2, processes=1))
    assert {c.id: (c.at, c.step) for c in result.commands} == {
        i: (at, step) for i, (at, step, *_) in one.told(*FIELDS).items()
    }
