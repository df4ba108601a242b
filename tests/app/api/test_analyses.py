"""Analyses over HTTP: from the tables to JSON and to a page, with the links that commands carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.rulebook import load_rulebook
from core.rules.trying import try_rule
from schemas.definitions import Rule
from tests.helpers.gateway import Served
from tests.helpers.words import NOON, a_batch, an_adoption_row

pytestmark = pytest.mark.kafka
HOUR = 3_600_000
ROOT = Path(__file__).parents[3] / "rulebook"


def rule(ident: str) -> Rule:
    texts = {str(p): p.read_text() for p in ROOT.rglob("*.yaml")}
    return next(d for d in load_rulebook(texts) if isinstance(d, Rule) and d.id == ident)


def test_what_goes_together_is_found_in_the_table_by_the_link_of_the_command(gateway: Served) -> None:
    rates = {
        "export": lambda i: 0.3 + (i % 5) / 20,
        "share": lambda i: 0.2 + (i % 5) / 40,
        "chat": lambda i: 0.4 + (i * i % 7) / 50,
    }
    rows = [
        an_adoption_row("1d", NOON + i * HOUR, product="shop", feature=name, adoption_rate=rate(i))
        for name, rate in rates.items()
        for i in range(40)
    ]
    gateway.project(a_batch("tables.adoption", rows))
    command = try_rule(rule("A2.3"), {"stage": "growth", "users": 25, "target_users": 100, "at": NOON + 39 * HOUR})
    assert command is not None
    links = command.payload["analysis"]
    assert isinstance(links, dict)
    with gateway.client("read_only") as client:
        body = client.get(str(links["json"])).json()
        assert (body["feature"], [o["feature"] for o in body["others"]]) == ("export", ["share", "chat"])
        share, chat = body["others"]
        assert share["correlation"] == pytest.approx(1) and share["clear"] and share["changes"] == 39
        assert not chat["clear"] and chat["low"] < chat["correlation"] < chat["high"]
        page = client.get(str(links["page"]))
        assert page.headers["content-type"].startswith("text/html") and "<svg" in page.text and "share" in page.text
        missing = client.get("/api/v1/products/shop/analyses/correlation", params={"feature": "nothing"})
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:uptake:problem:not-found")
        earlier = client.get(
            "/api/v1/products/shop/analyses/correlation", params={"feature": "export", "until": NOON + 3 * HOUR}
        )
        assert {o["correlation"] for o in earlier.json()["others"]} == {None}, "too little was known then"


def test_a_deal_returns_what_the_command_says(gateway: Served) -> None:
    deal = {"users": 40, "price_month": 20, "hours_saved_month": 2, "hour_cost": 50, "set_up_cost": 2400}
    command = try_rule(
        rule("E5.3"), {"type": "deal.sized", "contact": "ann", "properties": deal, "tenant": "acme", "product": "shop"}
    )
    assert command is not None
    links = command.payload["analysis"]
    assert isinstance(links, dict)
    with gateway.client("read_only") as client:
        body = client.get(str(links["json"])).json()
        for name in ("benefit_month", "cost_month", "roi_first_year"):
            assert body[name] == pytest.approx(command.payload[name])
        assert (body["payback_month"], len(body["cumulative"])) == (1, 36)
        page = client.get(str(links["page"]))
        assert "It pays for itself at the end of month 1." in page.text and "<polyline" in page.text
        bad = client.get("/api/v1/products/shop/analyses/return", params={**deal, "users": 0})
        assert bad.status_code == 422
