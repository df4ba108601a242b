"""S2 over HTTP: what a role that may not approve publishes waits; nobody acts on it until somebody who may says yes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.api.test_automations import RULE, V1, a_flow, body_of
from tests.helpers.gateway import Served, serve
from tests.helpers.kafka import delete_topics, fresh_prefix

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def strict(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway whose tenant acme wants its rules and workflows approved."""
    prefix = fresh_prefix("approvals")
    directory: Path = tmp_path_factory.mktemp("approvals")
    with serve(kafka, prefix, directory, api_requests_per_s=10_000) as served:
        with served.client("operations") as client:
            wanted = {"approval": ["rule", "workflow"]}
            assert client.put(f"{V1}/definitions/policy/approvals", json=wanted).status_code == 200
        yield served
    delete_topics(kafka, prefix)


def test_a_rule_waits_until_it_is_approved(strict: Served) -> None:
    with strict.client("product_manager") as manager, strict.client("product_director") as director:
        answer = manager.post(f"{V1}/automations", json=RULE)
        assert answer.status_code == 202 and answer.json()["status"] == "pending", answer.text
        name = answer.json()["name"]
        assert name == "rule:k4-rule" and answer.json()["by"] == "test-product_manager"
        assert manager.get(f"{V1}/definitions/rule/k4-rule").status_code == 404
        assert [p["name"] for p in manager.get(f"{V1}/approvals").json()] == [name]
        assert manager.post(f"{V1}/approvals/{name}/approve").status_code == 403
        assert manager.put(f"{V1}/definitions/policy/approvals", json={"approval": []}).status_code == 403
        published = director.post(f"{V1}/approvals/{name}/approve", json={"reason": "fine"})
        assert published.status_code == 200 and published.json()["version"] == 1, published.text
        assert director.post(f"{V1}/approvals/{name}/approve").status_code == 409
        assert manager.get(f"{V1}/definitions/rule/k4-rule").status_code == 200
        (decision,) = manager.get(f"{V1}/approvals", params={"decided": True}).json()
        assert (decision["status"], decision["decided_by"]) == ("approved", "test-product_director")
        body = {k: v for k, v in RULE.items() if k not in ("kind", "name")}
        same = manager.put(f"{V1}/definitions/rule/k4-rule", json=body)
        assert same.status_code == 200, "nothing changes, so nothing waits"
        changed = manager.put(f"{V1}/definitions/rule/k4-rule", json={**body, "description": "another"})
        assert changed.status_code == 202
        assert director.post(f"{V1}/approvals/{name}/reject", json={"reason": "no"}).json()["status"] == "rejected"
        assert manager.get(f"{V1}/definitions/rule/k4-rule").json()["description"] == ""


def test_a_workflow_waits_too_and_other_tenants_do_not(strict: Served) -> None:
    flow = body_of(a_flow("slow-flow"))
    with strict.client("product_manager") as manager, strict.client("product_director") as director:
        assert manager.post(f"{V1}/workflows/create", json=flow).status_code == 202
        assert director.post(f"{V1}/workflows/create", json={**flow, "name": "own", "id": "own"}).status_code == 201
    with strict.client("product_manager", "other") as other:
        assert other.post(f"{V1}/workflows/create", json=flow).status_code == 201
        assert other.get(f"{V1}/approvals").json() == []


def test_to_take_back_what_runs_did_waits_and_to_stop_does_not(strict: Served) -> None:
    flow = body_of(a_flow("gone-flow"))
    path = f"{V1}/definitions/workflow/gone-flow"
    with strict.client("product_manager") as manager, strict.client("product_director") as director:
        assert director.post(f"{V1}/workflows/create", json=flow).status_code == 201
        waits = manager.delete(path, params={"runs": "undo"})
        assert (waits.status_code, waits.json()["body"]["retired"]) == (202, "undo"), waits.text
        assert manager.get(path).status_code == 200, "it is in force until then"
        approved = director.post(f"{V1}/approvals/{waits.json()['name']}/approve")
        assert (approved.status_code, approved.json()["retired"]) == (200, "undo"), approved.text
        assert manager.get(path).status_code == 404
        assert director.post(f"{V1}/workflows/create", json=flow).status_code == 201
        assert manager.delete(path, params={"runs": "cancel"}).status_code == 204
