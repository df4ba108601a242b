from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Count, Emit
from core.rulebook import load_rulebook
from schemas.commands import Command, command_id
from schemas.definitions import CommandTemplate, OnBand, OnEvent, OnStage, OnThreshold, OnViral, Rule, Trigger
from schemas.registers import Signal
from tests.helpers.gateway import Served, serve
from tests.helpers.kafka import delete_topics, fresh_prefix
from tests.helpers.words import NOON, a_batch, a_health_row, an_adoption_row

pytestmark = pytest.mark.kafka
PATH = "/api/v1/automation/triggers"


def a_rule(id: str, trigger: Trigger, type: str, **changed: Any) -> Rule:
    template = CommandTemplate(
        type=type, title="{{ product }}", text="{{ subject }}", payload={"why": "{{ automation }}"}
    )
    return Rule(tenant="other", name=f"rule-{id}", id=id, trigger=trigger, command=template, **changed)


RULES = [
    a_rule("L1", OnStage(stages=["low"]), "marketing.campaign.start"),
    a_rule("L2", OnStage(stages=["low", "growth"]), "product.tutorial.deploy"),
    a_rule("G1", OnStage(stages=["growth"]), "product.feature.promote"),
    a_rule("V1", OnViral(), "marketing.market.expand", tags=["market-opportunity"]),
    a_rule("C1", OnBand(bands=["critical"]), "engineering.feature.roll_back"),
    a_rule("S1", OnBand(bands=["stable"]), "engineering.load.spread", tags=["performance-optimization"]),
    a_rule("O1", OnBand(bands=["optimal"]), "engineering.load.raise", tags=["performance-optimization"]),
    a_rule("T1", OnThreshold(threshold="slow"), "engineering.cache.grow", tags=["performance-optimization"]),
    a_rule("E1", OnEvent(topic="events.usage"), "sales.lead.call"),
]


@pytest.fixture(scope="module")
def ruled(gateway: Served) -> Iterator[Served]:
    gateway.define(*RULES)
    gateway.project(
        a_batch(
            "tables.adoption", [an_adoption_row("7d", tenant="other", product="started", stage="growth", viral=True)]
        ),
        a_batch("tables.health", [a_health_row(tenant="other", product="started", band="stable", score=71.5)]),
    )
    yield gateway


def start(gateway: Served, automation: str, body: dict[str, Any], key: str, tenant: str = "other") -> Any:
    with gateway.client("product_manager", tenant) as client:
        return client.post(
            f"{PATH}/{automation}", json={"product": "started", **body}, headers={"idempotency-key": key}
        )


def signals(gateway: Served, cause: str) -> list[tuple[bytes | None, dict[str, Any]]]:
    found = [(r.key, json.loads(r.value or b"{}")) for r in gateway.written("signals")]
    return [(key, signal) for key, signal in found if signal["cause"] == cause]


@pytest.mark.parametrize(
    ("automation", "body", "expected"),
    [
        ("feature-adoption", {"feature": "search"}, {"L2", "G1", "V1"}),
        ("feature-adoption", {"feature": "search", "stage": "low"}, {"L1", "L2"}),
        ("product-health", {}, {"S1"}),
        ("product-health", {"band": "critical"}, {"C1"}),
        ("performance-optimization", {}, {"S1", "O1", "T1"}),
        ("performance-optimization", {"band": "stable"}, {"S1", "T1"}),
        ("market-opportunity", {"feature": "search"}, {"V1"}),
        ("market-opportunity", {"feature": "search", "rules": ["C1", "rule-E1"]}, {"C1", "E1"}),
    ],
)
def test_each_starts_what_belongs_to_it(
    ruled: Served, automation: str, body: dict[str, Any], expected: set[str]
) -> None:
    key = f"key-{automation}-{sorted(body)}-{body.get('stage', body.get('band', ''))}".replace(" ", "")
    answer = start(ruled, automation, body, key)
    assert answer.status_code == 202, answer.text
    told = {c["rule"]: c for c in answer.json()["commands"]}
    assert set(told) == expected
    for rule, command in told.items():
        assert command["id"] == command_id("other", rule, command["subject"], key)
    for kafka_key, signal in signals(ruled, key):
        assert kafka_key == f"other|{signal['subject']}".encode()
    assert {r for _, s in signals(ruled, key) for r in s["rules"]} == {f"rule-{rule}" for rule in expected}


def test_decide_makes_exactly_the_commands_that_were_told(ruled: Served) -> None:
    answer = start(ruled, "feature-adoption", {"feature": "search", "facts": {"note": "by hand"}}, "to-decide")
    catalogue = Catalogue()
    for rule in RULES:
        catalogue.put(rule)
    task = SignalsTask(0, 1, catalogue)
    values = [r.value for r in ruled.written("signals") if b'"to-decide"' in (r.value or b"")]
    issued = [
        Command.model_validate_json(e.value or b"")
        for e in task.step(a_batch("signals", values))
        if isinstance(e, Emit) and e.topic.startswith("commands.")
    ]
    assert {c.id for c in issued} == {c["id"] for c in answer.json()["commands"]}
    assert {c.payload["why"] for c in issued} == {"feature-adoption"}


def test_a_signal_says_where_things_stand(ruled: Served) -> None:
    start(ruled, "feature-adoption", {"feature": "search", "facts": {"note": "x", "users": 99}}, "facts")
    ((_, signal),) = signals(ruled, "facts")
    data = signal["data"]
    assert (data["stage"], data["rate"], data["users"], data["note"]) == ("growth", 0.25, 99, "x")
    assert (data["window"], data["window_end"]) == ("7d", NOON)
    Signal(**signal)
    start(ruled, "product-health", {}, "facts-2")
    ((_, signal),) = signals(ruled, "facts-2")
    assert (signal["subject"], signal["data"]["weakest"]) == ("product:started", "reliability")


def test_the_same_key_starts_nothing_twice(ruled: Served) -> None:
    from tests.helpers.words import a_command

    first = start(ruled, "product-health", {}, "once").json()
    assert (first["repeated"], len(signals(ruled, "once"))) == (False, 1)
    done = [
        a_command(tenant="other", id=c["id"], rule=c["rule"], subject=c["subject"], cause="once")
        for c in first["commands"]
    ]
    ruled.project(a_batch("commands.engineering", done))
    again = start(ruled, "product-health", {}, "once").json()
    assert (again["repeated"], again["commands"]) == (True, first["commands"])
    assert len(signals(ruled, "once")) == 1


@pytest.mark.parametrize(
    ("automation", "body", "name"),
    [
        ("feature-adoption", {}, "which-feature"),
        ("feature-adoption", {"feature": "search", "stage": "market"}, "nothing-to-start"),
        ("product-health", {"band": "declining"}, "nothing-to-start"),
        ("market-opportunity", {}, "nothing-to-start"),
        ("market-opportunity", {"rules": ["V1"]}, "which-feature"),
        ("product-health", {"rules": ["nobody"]}, "unknown-rule"),
        ("product-health", {"rules": []}, "unknown-rule"),
        ("product-health", {"band": "splendid"}, "invalid-request"),
        ("product-health", {"unknown": 1}, "invalid-request"),
    ],
)
def test_what_cannot_be_started_says_why(ruled: Served, automation: str, body: dict[str, Any], name: str) -> None:
    answer = start(ruled, automation, body, "never")
    assert (answer.status_code, answer.json()["type"]) == (422, f"urn:uptake:problem:{name}")
    assert signals(ruled, "never") == []


def test_without_an_idempotency_key_nothing_starts(ruled: Served) -> None:
    with ruled.client("product_manager", "other") as client:
        answer = client.post(f"{PATH}/product-health", json={"product": "started"})
    assert answer.status_code == 422
    assert "idempotency-key" in answer.json()["detail"]


SHIPPED = Path(__file__).resolve().parents[3] / "rulebook"


@pytest.fixture(scope="module")
def shipped(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Catalogue]]:
    """A gateway of its own, with the rulebook as shipped and a product that has figures."""
    rulebook = load_rulebook({str(p): p.read_text() for p in sorted(SHIPPED.rglob("*.yaml"))})
    catalogue = Catalogue()
    for definition in rulebook:
        catalogue.put(definition)
    prefix = fresh_prefix("shipped")
    with serve(kafka, prefix, tmp_path_factory.mktemp("shipped"), ("acme", "all")) as served:
        served.define(*rulebook)
        served.project(
            a_batch("tables.adoption", [an_adoption_row("7d", product="started", viral=True)]),
            a_batch("tables.health", [a_health_row(product="started")]),
        )
        yield served, catalogue
    delete_topics(kafka, prefix)


@pytest.mark.parametrize(
    ("automation", "body", "least"),
    [
        *(("feature-adoption", {"feature": "search", "stage": stage}, 4) for stage in ("low", "growth", "market")),
        ("feature-adoption", {"feature": "search"}, 8),
        *(("product-health", {"band": band}, 4) for band in ("critical", "declining", "stable", "optimal")),
        ("performance-optimization", {}, 3),
        ("market-opportunity", {"feature": "search"}, 7),
        ("market-opportunity", {}, 3),
    ],
)
def test_every_shipped_rule_becomes_a_command_from_the_facts_that_are_sent(
    shipped: tuple[Served, Catalogue], automation: str, body: dict[str, Any], least: int
) -> None:
    """DECIDE renders all of them; none fails for want of a fact."""
    gateway, catalogue = shipped
    key = f"shipped-{automation}-{'-'.join(map(str, body.values()))}"
    answer = start(gateway, automation, body, key, tenant="acme")
    assert answer.status_code == 202, answer.text
    told = {c["id"] for c in answer.json()["commands"]}
    assert len(told) >= least
    values = [r.value for r in gateway.written("signals") if f'"{key}"'.encode() in (r.value or b"")]
    effects = list(SignalsTask(0, 1, catalogue).step(a_batch("signals", values)))
    assert [e for e in effects if isinstance(e, Count) and e.metric == "uptake_failed_total"] == []
    issued = [
        Command.model_validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and "commands." in e.topic
    ]
    assert {c.id for c in issued} == told
    assert all(c.why.thresholds["market_border"] == 0.6 for c in issued)
