from __future__ import annotations

from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.api.limits import HEADERS
from app.kafka import settle
from schemas.definitions import ApiKey, Connection, Rule
from tests.helpers.gateway import Served
from tests.helpers.kafka import run_anywhere
from tests.helpers.words import (
    NOON,
    a_batch,
    a_command,
    a_detection,
    a_health_row,
    a_receipt,
    a_sink_record,
    an_adoption_row,
    an_outcome_row,
)

pytestmark = pytest.mark.kafka
RULE = {"id": "X1", "trigger": {"kind": "viral"}, "command": {"type": "product.thing.do", "title": "t", "text": "t"}}


def test_lists_page_through_everything_once_also_within_one_millisecond(gateway: Served) -> None:
    commands = [a_command(product="paged", cause=f"c{i}", issued_at=NOON + i // 10) for i in range(35)]
    gateway.project(a_batch("commands.product", commands))
    seen: list[str] = []
    with gateway.client("read_only") as client:
        params = {"product": "paged", "limit": "4"}
        while True:
            page = client.get("/api/v1/commands", params=params).json()
            seen += [c["id"] for c in page["items"]]
            if page["next"] is None:
                break
            params["before"] = page["next"]
        assert client.get("/api/v1/commands", params={"before": "nonsense"}).status_code == 422
        assert client.get("/api/v1/commands", params={"limit": 0}).status_code == 422
    assert len(seen) == 35
    assert set(seen) == {c.id for c in commands}
    times = {c.id: c.issued_at for c in commands}
    assert [times[i] for i in seen] == sorted((c.issued_at for c in commands), reverse=True)


def test_outcomes(gateway: Served) -> None:
    gateway.project(
        a_batch("outcomes", [an_outcome_row(product="measured"), an_outcome_row(product="measured", rule="J8")])
    )
    with gateway.client("read_only") as client:
        found = client.get("/api/v1/outcomes", params={"product": "measured"}).json()
        assert [(r["rule"], r["verdict"], r["treated"]["rate"]) for r in found] == [
            ("J7", "working", 0.3),
            ("J8", "working", 0.3),
        ]
        assert client.get("/api/v1/outcomes", params={"product": "measured", "rule": "J8"}).json() == found[1:]
        assert client.get("/api/v1/outcomes", params={"verdict": "splendid"}).status_code == 422
        assert client.get("/api/v1/outcomes/reports", params={"product": "measured"}).json() == []


def test_filters(gateway: Served) -> None:
    one = a_command(product="filtered", cause="f1", rule="F1", type="sales.lead.call", subject="user:u1")
    two = a_command(product="filtered", cause="f2", rule="F2")
    gateway.project(
        a_batch("commands.sales", [one, two]),
        a_batch("receipts", [a_receipt(one, status="rejected", reason="gone"), a_receipt(two)]),
        a_batch("sink", [a_sink_record(one)]),
        a_batch("detections", [a_detection(product="filtered")]),
    )

    def ids(path: str, **params: str) -> list[str]:
        with gateway.client("read_only") as client:
            items = client.get(f"/api/v1/{path}", params={"product": "filtered", **params}).json()["items"]
        return [item.get("command", item["id"]) for item in items]

    assert ids("commands", domain="sales") == [one.id]
    assert ids("commands", rule="F2") == [two.id]
    assert ids("commands", subject="user:u1") == [one.id]
    assert ids("receipts", status="rejected") == [one.id]
    assert ids("deliveries", command=two.id) == [two.id]
    assert len(ids("detections", kind="stage_entered")) == 1
    assert ids("detections", kind="viral_entered") == []
    with gateway.client("read_only") as client:
        assert one.id in {r["command"]["id"] for r in client.get("/api/v1/sink").json()}


def test_a_trace_is_followed_from_any_id_and_only_within_the_tenant(gateway: Served) -> None:
    detection = a_detection(product="traced")
    command = a_command(product="traced", cause=detection.id, detection=detection.id)
    receipt = a_receipt(command)
    gateway.project(
        a_batch("detections", [detection]), a_batch("commands.product", [command]), a_batch("receipts", [receipt])
    )
    for wanted in (detection.id, command.id, receipt.delivery):
        with gateway.client("read_only") as client:
            body = client.get(f"/api/v1/trace/{wanted}").json()
            assert ([c["id"] for c in body["commands"]], len(body["receipts"])) == ([command.id], 1)
        with gateway.client("read_only", "other") as client:
            assert client.get(f"/api/v1/trace/{wanted}").status_code == 404


def test_dead_letters_are_for_those_who_may_read_raw_rows(gateway: Served) -> None:
    headers = [
        ("uptake-topic", b"events.usage"),
        ("uptake-offset", b"5"),
        ("uptake-reason", b"invalid"),
        ("uptake-step", b"meter"),
    ]
    batch = a_batch("dead-letters", [b'{"id":"dead-7"}'], keys=[b"acme|u1"], headed={0: headers})
    gateway.project(batch)
    with gateway.client("development") as client:
        items = client.get("/api/v1/dead-letters", params={"reason": "invalid"}).json()["items"]
        (letter,) = [i for i in items if i["offset"] == 5]
        assert (letter["value"], letter["offset"]) == ('{"id":"dead-7"}', 5)
        assert len(client.get("/api/v1/trace/dead-7").json()["dead_letters"]) == 1
    with gateway.client("read_only") as client:
        assert client.get("/api/v1/trace/dead-7").json()["dead_letters"] == []
    with gateway.client("development", "other") as client:
        assert '"dead-7"' not in str(client.get("/api/v1/dead-letters").json()["items"])


def test_definitions_are_written_read_and_retired(gateway: Served) -> None:
    path = "/api/v1/definitions/rule/life"
    with gateway.client("product_manager") as client:
        made = client.put(path, json=RULE)
        assert (made.status_code, made.json()["version"], made.json()["tenant"]) == (200, 1, "acme")
        assert client.put(path, json=RULE).json()["version"] == 1
        assert client.put(path, json={**RULE, "cooldown_s": 60}).json()["version"] == 2
        assert Rule.model_validate(client.get(path).json()).cooldown_s == 60
        assert "life" in {d["name"] for d in client.get("/api/v1/definitions", params={"kind": "rule"}).json()}
        paused = client.post("/api/v1/rules/life/pause")
        assert (paused.json()["scope"], paused.json()["of"]) == ("rule", "X1")
        assert client.post("/api/v1/rules/X1/resume").status_code == 204
        assert client.post("/api/v1/rules/X1/resume").status_code == 404
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
        wrong = client.put(path, json={**RULE, "trigger": {"kind": "moon"}})
        assert (wrong.status_code, "trigger" in wrong.text) == (422, True)
        assert client.put("/api/v1/definitions/nonsense/x", json={}).status_code == 422
    with gateway.client("product_manager", "other") as client:
        assert client.get(path).status_code == 404


def test_a_workflow_is_retired_with_a_word_to_its_runs(gateway: Served) -> None:
    path = "/api/v1/definitions/workflow/flow"
    body = {
        "id": "F1",
        "trigger": {"kind": "event", "topic": "events.usage"},
        "start": "a",
        "nodes": [{"kind": "exit", "id": "a"}],
    }
    with gateway.client("product_manager") as client:
        assert client.put(path, json=body).json()["version"] == 1
        assert client.delete(path, params={"runs": "explode"}).status_code == 422
        assert client.delete(path, params={"runs": "cancel"}).status_code == 204
        assert client.get(path).status_code == 404 and client.delete(path).status_code == 404
        assert client.post("/api/v1/workflows/create", json={**body, "name": "flow"}).json()["version"] == 3
        assert client.put(path, json={**body, "retired": "finish"}).json()["retired"] == "finish"
        assert client.get(path).status_code == 404


def test_a_connection_holds_references_only(gateway: Served) -> None:
    path = "/api/v1/definitions/connection/hook"
    with gateway.client("operations") as client:
        good = {
            "integration": "webhook",
            "config": {"url": "https://example.com/x", "secret": {"env": "UPTAKE_SECRET_ACME__HOOK"}},
        }
        made = client.put(path, json=good)
        assert made.status_code == 200, made.text
        assert Connection.model_validate(made.json()).enabled is False
        literal: dict[str, Any] = {
            **good,
            "config": {"url": "https://example.com/x", "secret": "whsec_aGVsbG8td29ybGQtMTIzNDU2"},
        }
        refused = client.put(path, json=literal)
        assert refused.status_code == 422
        assert literal["config"]["secret"] not in refused.text
        assert client.put(path, json={"integration": "pigeon", "config": {}}).status_code == 422


def test_status_shows_everything_of_the_tenant_and_the_log_to_nobody_else(gateway: Served) -> None:
    command = a_command(product="shown")
    gateway.project(
        a_batch(
            "tables.adoption",
            [an_adoption_row("7d", product="shown"), an_adoption_row("5m", NOON + 10_000, product="shown")],
        ),
        a_batch("tables.health", [a_health_row(product="shown")]),
        a_batch("commands.product", [command]),
    )
    with gateway.client("read_only") as client:
        body = client.get("/api/v1/status").json()
        (product,) = [p for p in body["products"] if p["product"] == "shown"]
        assert (product["watermark"], product["health"]["band"]) == (NOON + 10_000, "stable")
        assert body["progress"] is None
        assert body["counts"]["commands"] >= 1
    progress: dict[str, Any] | None = None
    with gateway.client("read_only", "all") as client:

        def sampled() -> bool:  # a cluster that never had a group makes its book of them when it is first asked
            nonlocal progress
            progress = client.get("/api/v1/status").json()["progress"]
            return progress is not None

        assert run_anywhere(settle(sampled, within_s=90))
        assert progress is not None and progress["events"] >= 0
        assert set(progress["lag"]) == {"meter", "decide", "deliver", "project", "orchestrate", "archive"}


def test_the_page_is_served_with_headers_that_hold_it_in(gateway: Served) -> None:
    with httpx.Client(base_url=gateway.url, timeout=30) as visitor:
        page = visitor.get("/")
        assert (page.status_code, "/static/status.js" in page.text) == (200, True)
        for name, kind in (("status.js", "text/javascript"), ("status.css", "text/css")):
            assert visitor.get(f"/static/{name}").headers["content-type"].startswith(kind)
        assert visitor.get("/static/..%2Fbuild.py").status_code == 404
        for answer in (page, visitor.get("/api/v1/products"), visitor.get("/nowhere")):
            assert {k: answer.headers[k] for k in HEADERS} == HEADERS
        lost = visitor.get("/nowhere")
        assert (lost.status_code, lost.json()["type"]) == (404, "urn:uptake:problem:no-such-path")
        assert visitor.post("/livez").json()["type"] == "urn:uptake:problem:method-not-allowed"


def test_probes_and_metrics(gateway: Served) -> None:
    with httpx.Client(base_url=gateway.url, timeout=30) as visitor:
        for probe in ("livez", "readyz", "startedz"):
            answer = visitor.get(f"/{probe}")
            assert (answer.status_code, answer.json()["ok"]) == (200, True), answer.text
        visitor.get("/api/v1/products/some-product/metrics")
        visitor.get("/never-a-route-1")
        text = visitor.get("/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    routes = {s.labels["route"] for s in families["uptake_http_requests"].samples}
    assert "/livez" in routes and "other" in routes
    assert any(r.endswith("/metrics") and "{" in r for r in routes), routes
    assert not any("some-product" in r or "never" in r for r in routes)


def test_no_answer_shows_a_hash(gateway: Served) -> None:
    with gateway.client("operations", "all") as client:
        shown = client.get("/api/v1/definitions").text + client.get("/api/v1/keys").text
    assert '"hash"' not in shown
    assert ApiKey.model_fields["hash"].is_required()
