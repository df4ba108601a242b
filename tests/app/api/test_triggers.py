from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Emit
from schemas.commands import Command, command_id
from schemas.definitions import CommandTemplate, OnBand, OnEvent, OnStage, OnThreshold, OnViral, Rule, Trigger
from schemas.registers import Signal
from tests.helpers.gateway import Served
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
    a_rule("V1", OnViral(), "marketing.market.expand"),
    a_rule("C1", OnBand(bands=["critical"]), "engineering.feature.roll_back"),
    a_rule("S1", OnBand(bands=["stable"]), "engineering.performance.optimise"),
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


def start(gateway: Served, automation: str, body: dict[str, Any], key: str, role: str = "product_manager") -> Any:
    with gateway.client(role, "other") as client:
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
        ("performance-optimization", {}, {"S1", "T1"}),
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
        ("product-health", {"band": "optimal"}, "nothing-to-start"),
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
