"""Calls of others: an address of its own, what a body becomes, whoever may not, and a rule that waits for it."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from app.api.access import hashed
from core.sources import Unmapped, called
from core.yamltext import load_yaml
from schemas.definitions import Hook
from schemas.events import EVENTS
from tests.helpers.gateway import Served

ORDERS: dict[str, Any] = {
    "name": "orders",
    "product": "shop",
    "target": "events.commerce",
    "fields": {"user": "customer.id", "order": "number", "amount": "total", "occurred_at": "placed_at"},
    "constants": {"type": "order.completed", "currency": "EUR"},
}
SECRET = "whsec_ZXhhbXBsZS1zZWNyZXQtb2YtdXB0YWtlLTAwMDE="
AT = "2026-03-01T09:30:00Z"
CALL = {"customer": {"id": 7}, "number": 41, "total": "12.50", "placed_at": AT}
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "producers.md").read_text()


def a_hook(**changed: Any) -> Hook:
    return Hook.model_validate({**ORDERS, "tenant": "acme", "hash": "0" * 64, **changed})


def made(gateway: Served, tenant: str = "acme", **changed: Any) -> str:
    """A new hook's path."""
    with gateway.client("operations", tenant) as client:
        answer = client.post("/api/v1/hooks", json={**ORDERS, **changed})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["path"])


def post(gateway: Served, path: str, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with httpx.Client(base_url=gateway.url, verify=False, timeout=30) as client:
        return client.post(path, content=content, headers={"content-type": "application/json", **headers})


def events(gateway: Served, topic: str, product: str) -> list[dict[str, Any]]:
    rows = [json.loads(r.value or b"{}") for r in gateway.written(topic)]
    return [r for r in rows if r.get("product") == product]


@pytest.mark.kafka
def test_a_call_is_an_event_and_made_again_it_is_the_same(gateway: Served) -> None:
    path = made(gateway, name="calls", product="hooked")
    for _ in range(2):
        answer = post(gateway, path, CALL)
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"accepted": 1, "rejected": [], "spooled": False}
    first, again = events(gateway, "events.commerce", "hooked")
    assert first == again, "one id: METER counts it once"
    expected = {
        "type": "order.completed",
        "user": "7",
        "order": "41",
        "amount": 12.5,
        "currency": "EUR",
        "tenant": "acme",
    }
    assert expected.items() <= first.items()
    assert first["occurred_at"] == int(datetime.fromisoformat(AT).timestamp() * 1000)


@pytest.mark.kafka
def test_a_list_a_form_and_an_id_of_the_call(gateway: Served) -> None:
    path = made(gateway, name="forms", product="formed", fields={"user": "customer.id", "amount": "total"})
    answer = post(gateway, path, [CALL, {"total": 3}, "no object"])
    assert answer.status_code == 207 and answer.json()["accepted"] == 1
    reasons = {r["index"]: (r["reason"], r["detail"]) for r in answer.json()["rejected"]}
    assert reasons[1][0] == "invalid" and "user" in reasons[1][1]
    assert reasons[2][0] == "not_object"
    form = {"content-type": "application/x-www-form-urlencoded", "webhook-id": "msg_1"}
    assert post(gateway, path, b"customer.id=9&total=4", **form).status_code == 202
    found = events(gateway, "events.commerce", "formed")
    assert {e["user"]: e["amount"] for e in found} == {"7": 12.5, "9": 4.0}
    assert "forms-msg_1" in {e["id"] for e in found}


@pytest.mark.kafka
def test_only_who_signs_may_where_a_secret_is_asked_for(gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(gateway, name="signed", product="signed", secret={"env": "UPTAKE_SECRET_ACME__SHOP"})
    assert post(gateway, path, CALL).status_code == 503, "nobody set the secret"
    monkeypatch.setenv("UPTAKE_SECRET_ACME__SHOP", SECRET)
    body = json.dumps(CALL)
    now = datetime.fromtimestamp(time.time_ns() / 1e9, UTC)
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("m1", now, body),
    }
    assert post(gateway, path, body.encode(), **headers).status_code == 202
    for wrong in ({}, {**headers, "webhook-id": "m2"}, {**headers, "webhook-timestamp": "1"}):
        answer = post(gateway, path, body.encode(), **wrong)
        assert answer.status_code == 401 and answer.json()["type"] == "urn:uptake:problem:not-signed"
    assert len(events(gateway, "events.commerce", "signed")) == 1


@pytest.mark.kafka
def test_who_has_no_address_and_what_is_no_call_is_refused(gateway: Served) -> None:
    answer = post(gateway, "/hooks/upt_nobody", CALL)
    assert answer.status_code == 404 and "uptake hooks create" in answer.json()["detail"]
    path = made(gateway, name="refusing", product="refusing")
    assert post(gateway, path, b"{").status_code == 400
    assert post(gateway, path, []).status_code == 422
    assert post(gateway, path, [CALL] * 1_001).status_code == 413
    assert post(gateway, path, CALL, **{"content-type": "text/plain"}).status_code == 415
    answer = post(gateway, path, {**CALL, "placed_at": "soon"})
    assert answer.status_code == 422 and "occurred_at" in answer.json()["detail"]
    assert events(gateway, "events.commerce", "refusing") == []
    with gateway.client("operations") as client:
        listed = client.get("/api/v1/hooks")
        assert "refusing" in {h["name"] for h in listed.json()}
        assert path.rpartition("/")[2] not in listed.text and hashed(path.rpartition("/")[2]) not in listed.text
        assert client.post("/api/v1/hooks", json={**ORDERS, "name": "refusing"}).status_code == 409
        foreign = client.post(
            "/api/v1/hooks", json={**ORDERS, "name": "theirs", "secret": {"env": "UPTAKE_SECRET_OTHER__X"}}
        )
        assert foreign.status_code == 422 and "tenant acme" in foreign.json()["detail"]
        assert (
            client.post("/api/v1/hooks", json={**ORDERS, "name": "odd", "target": "events.nothing"}).status_code == 422
        )
        assert client.delete("/api/v1/hooks/refusing").status_code == 204
    assert post(gateway, path, CALL).status_code == 404


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_whatever_a_body_is_it_becomes_a_row_or_a_reason(row: object) -> None:
    event = called(a_hook(), row, "i", 5)
    assert isinstance(event, Unmapped) if not isinstance(row, dict) else event is not None
    if isinstance(event, dict):
        assert event["id"] == "i" and event["occurred_at"] == 5, "nothing of the body fits the fields"


def test_the_example_of_the_page_makes_an_event() -> None:
    (example,) = re.findall(r"```yaml\n# shop-orders.yaml\n(.*?)```", PAGE, re.DOTALL)
    hook = Hook.model_validate({**load_yaml(example), "hash": "0" * 64})
    event = called(hook, CALL, "i", 5)
    assert isinstance(event, dict)
    EVENTS[hook.target].model_validate({**event, "tenant": hook.tenant, "product": hook.product})


def test_a_hook_speaks_for_one_tenant() -> None:
    with pytest.raises(ValueError, match="one tenant"):
        a_hook(tenant="all")
