"""Each bad input through both doors: `uptake plan` (a file) and the API, each with its line, its path and the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.rulebook import dotted, read_rulebook
from tests.core.workflows.build import COMMAND, act, workflow
from tests.helpers.gateway import Served

pytestmark = pytest.mark.kafka
WAIT = {"kind": "await", "id": "w", "events": {"opened": None}}
CALLS_ITSELF = {"kind": "call", "id": "c", "workflow": "refused"}
EVENT = {"kind": "event", "topic": "events.usage", "where": None, "subject": "user"}
RULE = {"kind": "rule", "name": "refused", "id": "refused", "trigger": EVENT, "command": COMMAND}


def a_rule(**changed: Any) -> dict[str, Any]:
    return {**RULE, **changed}


def a_flow(*nodes: dict[str, Any], **changed: Any) -> dict[str, Any]:
    body = workflow(act("a")).model_dump(mode="json", exclude={"tenant", "version", "earlier", "asked_before"})
    made = list(nodes) or [act("a")]
    return {**body, "name": "refused", "id": "refused", "start": made[0]["id"], "nodes": made, **changed}


def told(text: str) -> dict[str, Any]:
    return {**COMMAND, "title": text}


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown field": (a_rule(typo=1), "typo", "Extra inputs"),
    "an unknown field of a node": (a_flow({**act("a"), "typo": 1}), "typo", "Extra inputs"),
    "a type error": (a_rule(condition="feature == 5"), "condition.value", "never a number"),
    "a type error in a node": (
        a_flow({"kind": "loop", "id": "l", "body": "a", "max_turns": "many"}, act("a")), "max_turns", "integer"
    ),
    "an endless loop": (a_flow(act("a", "b"), act("b", "a")), "nodes[0]", "an endless loop: a → b → a"),
    "a workflow that calls itself": (a_flow(CALLS_ITSELF), "nodes[0]", "an endless loop"),
    "an unreachable node": (a_flow(act("a"), act("b")), "nodes[1]", "nothing leads to it"),
    "a wait without a timeout": (a_flow(WAIT), "nodes[0]", "it may wait for ever"),
    "a cron that never fires": (a_rule(trigger={"kind": "schedule", "cron": "0 0 31 2 *"}), "trigger", "day-of-month"),
    "another tenant's field": (a_rule(command=told("{{ tenants.other.seats }}")), "command.title", "its own trigger"),
    "another tenant's field in a node": (
        a_flow({**act("a"), "command": told("{{ tenants.other.seats }}")}), "command.title", "its own trigger"
    ),
    "the inside of an object": (a_rule(command=told("{{ user.__class__.__mro__ }}")), "command.title", "the inside of an object"),
    "a property of 10 MB": (a_rule(command=told("x" * 10_000_000)), "", ""),
    "a property of 1 MB": (a_rule(command=told("x" * 1_000_000)), "command.title", "at most 20000 characters"),
    "a graph of 10,000 steps": (
        a_flow(*(act(f"n{i}", f"n{i + 1}" if i < 9_999 else None) for i in range(10_000))), "nodes", "at most 2000 items"
    ),
    "an expression bomb": (a_rule(condition="!" * 5_000 + "x"), "condition", "of one sign"),
    "an expression bomb in a node": (
        a_flow({"kind": "branch", "id": "b", "paths": [{"when": "(" * 2_000 + "x", "next": None}]}), "when", "nest deeper"
    ),
    "a template bomb": (a_rule(command=told("{{ 'x' * 1000000000 }}")), "command.title", "takes numbers only"),
    "a migration to nowhere": (a_flow(publish="migrate", migrate={"a": "z"}), "migrate.a", "no node 'z'"),
    "a migration without its policy": (a_flow(migrate={"a": "a"}), "migrate", "go together"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BAD))
def test_refused_at_both_doors(gateway: Served, name: str) -> None:
    body, path, reason = BAD[name]
    text = json.dumps({"definitions": [body]}, indent=1)
    _, problems = read_rulebook({"f.yaml": text})
    errors = [p for p in problems if p.level == "error"]
    assert errors, "the file is refused"
    (first, *_) = [e for e in errors if reason in e.reason] or [None]
    assert first is not None, [e.reason for e in errors]
    assert path in (first.shown or dotted(first.path))
    assert first.line is not None or reason == ""

    sent = json.dumps({k: v for k, v in body.items() if k not in ("kind", "name")}, indent=1)
    with gateway.client("product_director") as client:
        headers = {"content-type": "application/json"}
        answer = client.put(f"/api/v1/definitions/{body['kind']}/refused", content=sent, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        assert client.get(f"/api/v1/definitions/{body['kind']}/refused").status_code == 404
    if answer.status_code == 413:
        assert len(sent) > 1_000_000 and "bytes" in answer.json()["detail"]
        return
    assert answer.status_code == 422, answer.text
    (error, *_) = [e for e in answer.json()["errors"] if reason in e["why"]]
    assert path in error["at"]
    assert error.get("line", 0) >= 1 or len(sent) > 4_000_000, "beyond the bound of YAML no line is looked for"


def test_a_run_of_commands_and_events_through_a_workflow_is_no_way_out(gateway: Served) -> None:
    """Neither a rule nor a workflow may be woken by what its own command becomes."""
    back = {
        "topic": "commands.marketing",
        "target": "events.performance",
        "fields": {"service": "subject", "latency_ms": "at"},
        "constants": {"type": "go"},
    }
    forth = {
        "topic": "commands.sales",
        "target": "events.performance",
        "fields": {"service": "subject", "latency_ms": "at"},
        "constants": {"feature": "x"},
    }
    # No other test of this gateway has a trigger on this topic: a loop through one of theirs would be refused too.
    turned = {**EVENT, "topic": "events.performance"}
    where = {"kind": "compare", "field": "feature", "op": "==", "value": "x"}
    rule = a_rule(trigger={**turned, "where": where}, command={**COMMAND, "type": "marketing.note.write"})
    flow = a_flow(trigger={**turned, "where": {**where, "field": "type", "value": "go"}})
    sources = [{"kind": "source", "name": n, **b} for n, b in (("back", back), ("forth", forth))]
    text = json.dumps({"definitions": [*sources, rule, {**flow, "name": "turn", "id": "turn"}]}, indent=1)
    _, problems = read_rulebook({"f.yaml": text})
    reasons = "\n".join(p.reason for p in problems if p.level == "error")
    assert "rule refused → commands.marketing → source back → events.performance → rule refused" in reasons
    assert "workflow turn → commands.sales → source forth → events.performance → workflow turn" in reasons

    everybody = {"tenant": "all"}
    with gateway.client("operations", "all") as operator, gateway.client("product_director", "all") as director:
        assert operator.put("/api/v1/definitions/source/loop-forth", json=forth, params=everybody).status_code == 200
        answer = director.post("/api/v1/workflows/create", json={**flow, "name": "loop-flow"}, params=everybody)
        assert answer.status_code == 422 and "workflow loop-flow → commands.sales" in answer.json()["detail"]
        gone = operator.delete("/api/v1/definitions/source/loop-forth", params=everybody)
        assert gone.status_code == 204
