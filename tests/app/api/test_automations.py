"""K3 and K4: workflows and automations made, listed, paused, tried, started; their runs listed, inspected and spoken to."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from app.kafka import settle
from core.batch import Batch
from core.definitions import Catalogue
from core.workflows.desk import Came, Desk, Occurrence
from core.workflows.shelf import Shelf
from schemas.commands import command_id
from schemas.definitions import Workflow
from tests.core.workflows.build import T0, S, act, workflow
from tests.helpers.gateway import Served
from tests.helpers.kafka import run_anywhere

pytestmark = pytest.mark.kafka
V1 = "/api/v1"
WAIT = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": "1h"}, "next": "b"}


class _Rows:
    def key(self, row: int) -> bytes | None:
        return b"acme|user:u"


def a_flow(name: str, *nodes: dict[str, Any], **more: Any) -> Workflow:
    nodes = nodes or (act("a", "w"), WAIT, act("b"))
    return workflow(*nodes, **more).model_copy(update={"name": name, "id": name, "tenant": "acme"})


def body_of(one: Workflow) -> dict[str, Any]:
    return {
        k: v
        for k, v in one.model_dump(mode="json").items()
        if k not in ("kind", "tenant", "version", "earlier", "asked_before")
    }


def project(served: Served, came: list[Came], tenant: str = "acme") -> None:
    values = [msgspec.json.encode(one.record).replace(b'"acme"', f'"{tenant}"'.encode()) for one in came]
    n = len(values)
    served.project(Batch("runs", 0, list(values), np.arange(n), np.full(n, T0), n, _Rows()))


def some_runs(served: Served, one: Workflow, users: range, at: int = T0) -> list[str]:
    catalogue = Catalogue()
    catalogue.put(one)
    desk, came = Desk(Shelf(catalogue)), list[Came]()
    for n in users:
        data = {"type": "go", "seats": n}
        came += desk.happened(
            Occurrence("acme", "shop", f"user:u{n}", f"{one.name}-{n}", at + n, "events.usage", data), at
        )
    project(served, came)
    return [c.record.run for c in came]


def active(client: Any, count: int) -> list[dict[str, Any]]:
    """The workflow as it is listed, once it is listed so often: the gateway hears of definitions a moment after they are written."""

    def found() -> list[dict[str, Any]]:
        return [w for w in client.get(f"{V1}/workflows/active").json() if w["name"] == "k3-flow"]

    run_anywhere(settle(lambda: len(found()) == count, within_s=60))
    return found()


def test_a_workflow_is_made_listed_paused_and_its_results_told(gateway: Served) -> None:
    one = a_flow("k3-flow")
    with gateway.client("product_manager") as client:
        made = client.post(f"{V1}/workflows/create", json=body_of(one))
        assert made.status_code == 201 and made.json()["version"] == 1, made.text
        assert client.post(f"{V1}/workflows/create", json=body_of(one)).status_code == 409
        ids = some_runs(gateway, one, range(5))
        (listed,) = active(client, 1)
        assert listed["runs"] == {"running": 5} and listed["publish"] == "pin"
        paused = client.put(f"{V1}/workflows/k3-flow/status", json={"status": "paused"})
        assert paused.json() == {"status": "paused", "id": "k3-flow", "name": "k3-flow"}
        assert active(client, 0) == []
        for _ in range(2):
            assert client.put(f"{V1}/workflows/k3-flow/status", json={"status": "active"}).status_code == 200
        assert active(client, 1)
        (results,) = client.get(f"{V1}/workflows/k3-flow/results").json()["versions"]
        assert (results["runs"], results["going"], results["reached_goal"]) == (5, 5, None)
        assert client.get(f"{V1}/workflows/nobodys/results").status_code == 404
        assert len(ids) == 5
    with gateway.client("product_manager", "other") as client:
        assert client.get(f"{V1}/workflows/k3-flow/results").status_code == 404
        assert "k3-flow" not in [w["name"] for w in client.get(f"{V1}/workflows/active").json()]


def test_what_is_wrong_is_told_with_line_path_and_reason(gateway: Served) -> None:
    bad = body_of(a_flow("k3-bad", act("a", "nowhere")))
    text = json.dumps(bad, indent=1)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if '"nowhere"' in row)
    headers = {"content-type": "application/json"}
    with gateway.client("product_manager") as client:
        for path, sent in (
            ("workflows/create", text),
            ("automations", json.dumps({"kind": "workflow", **bad}, indent=1)),
        ):
            answer = client.post(f"{V1}/{path}", content=sent, headers=headers)
            assert answer.status_code == 422, answer.text
            (error,) = answer.json()["errors"]
            assert error["why"] == "no node 'nowhere'" and "nodes[0] (a): next" in error["at"]
            assert error["line"] == line + (path == "automations")
        answer = client.put(f"{V1}/definitions/workflow/k3-bad", content=text, headers=headers)
        assert answer.json()["errors"][0]["line"] == line
        assert client.post(f"{V1}/automations", json={"kind": "pause", "name": "x"}).status_code == 422


def test_runs_are_listed_page_by_page_and_shown_with_their_log(gateway: Served) -> None:
    one = a_flow("k4-runs")
    ids = some_runs(gateway, one, range(7), T0 + 1_000)
    with gateway.client("read_only") as client:
        asked = {"workflow": "k4-runs", "limit": 3}
        page = client.get(f"{V1}/runs", params=asked).json()
        seen = [r["id"] for r in page["items"]]
        while page["next"]:
            page = client.get(f"{V1}/runs", params={**asked, "before": page["next"]}).json()
            seen += [r["id"] for r in page["items"]]
        assert seen == ids[::-1]
        assert client.get(f"{V1}/runs", params={"workflow": "k4-runs", "node": "b"}).json()["items"] == []
        assert len(client.get(f"{V1}/runs", params={"workflow": "k4-runs", "node": "w"}).json()["items"]) == 7
        shown = client.get(f"{V1}/runs/{ids[0]}").json()
        assert [line["what"] for line in shown["log"]][:3] == ["began", "entered", "ordered"] and shown["places"] == [
            "w"
        ]
        assert shown["commands"] == [command_id("acme", "k4-runs", "user:u0", "k4-runs-0", "a")]
    with gateway.client("read_only", "other") as client:
        assert client.get(f"{V1}/runs/{ids[0]}").status_code == 404
        assert client.get(f"{V1}/runs", params={"workflow": "k4-runs"}).json()["items"] == []


def signals(served: Served, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(r.value or b"{}") for r in served.written("signals")]
    return [s for s in found if s["kind"] == kind]


def test_many_runs_are_spoken_to_at_once(gateway: Served) -> None:
    one = a_flow("k4-bulk")
    ids = some_runs(gateway, one, range(6), T0 + 5_000)
    with gateway.client("operations") as client:
        meant = {"workflow": "k4-bulk", "version": 1, "node": "w", "where": "seats >= 3"}
        told = client.post(f"{V1}/runs/pause", json={**meant, "dry_run": True}).json()
        assert told == {"word": "pause", "runs": 3, "versions": {"1": 3}, "dry_run": True}
        assert signals(gateway, "pause") == []
        assert client.post(f"{V1}/runs/pause", json=meant).json()["runs"] == 3
        words = signals(gateway, "pause")
        assert {s["data"]["run"] for s in words} == set(ids[3:]) and {s["data"]["by"] for s in words} == {
            "test-operations"
        }
        assert (
            client.post(f"{V1}/runs/cancel", json={"workflow": "k4-bulk", "runs": ids[:1], "undo": True}).json()["runs"]
            == 1
        )
        (word,) = [s for s in signals(gateway, "cancel") if s["data"]["run"] == ids[0]]
        assert word["data"]["compensate"] is True and (word["tenant"], word["subject"]) == ("acme", "user:u0")
        moved = client.post(f"{V1}/runs/move", json={"workflow": "k4-bulk", "nodes": {"w": "v"}}).json()
        assert moved["runs"] == 6
        assert client.post(f"{V1}/runs/explode", json=meant).status_code == 422
        assert client.post(f"{V1}/runs/pause", json={**meant, "where": "seats >"}).status_code == 422
    with gateway.client("operations", "other") as client:
        assert client.post(f"{V1}/runs/cancel", json={"workflow": "k4-bulk"}).json()["runs"] == 0


def test_who_stands_where_before_a_version_is_published(gateway: Served) -> None:
    one = a_flow("k4-where")
    gateway.define(one)
    some_runs(gateway, one, range(4))
    after = body_of(
        a_flow("k4-where", act("a", "x"), {**WAIT, "id": "x"}, act("b"), publish="migrate", migrate={"w": "x"})
    )
    with gateway.client("product_manager") as client:
        found = client.post(f"{V1}/workflows/k4-where/preview", json=after).json()
        assert found["runs"] == 4 and found["publish"] == "migrate"
        (line,) = found["lines"]
        assert (line["version"], line["places"], line["runs"], line["paused"]) == (1, ["w"], 4, False)
        assert line["migrate"] == "goes on at x" and line["pin"] == "stays in version 1"
        assert line["follow"] == "stays in version 1: no_such_node w" and "nobody enters" in line["drain"]
        assert client.get(f"{V1}/definitions/workflow/k4-where").json()["version"] == 1, "nothing is published"


RULE = {
    "kind": "rule",
    "id": "k4-rule",
    "name": "k4-rule",
    "trigger": {"kind": "event", "topic": "events.usage", "where": 'feature == "export"'},
    "command": {"type": "product.note.write", "title": "{{ user }}", "text": "{{ reason }}"},
}


def test_an_automation_is_tried_made_paused_and_started_by_its_id(gateway: Served) -> None:
    with gateway.client("product_manager") as client:
        tried = client.post(
            f"{V1}/automations/preview", json={"definition": RULE, "given": {"feature": "export", "user": "ann"}}
        )
        (command,) = tried.json()["commands"]
        assert (command["type"], command["title"]) == ("product.note.write", "ann"), tried.text
        silent = client.post(
            f"{V1}/automations/preview", json={"definition": RULE, "given": {"feature": "import", "user": "ann"}}
        )
        assert silent.json()["commands"] == []
        flow = {"kind": "workflow", **body_of(a_flow("k4-tried"))}
        steps = [{"event": {"type": "go"}}, {"wait": "2h"}]
        body = client.post(f"{V1}/automations/preview", json={"definition": flow, "steps": steps}).json()
        assert [c["step"] for c in body["commands"]] == ["a", "b"] and body["failure"] is None
        wrong = [*steps, {"status": "running"}]
        assert "expected the run's status" in client.post(
            f"{V1}/automations/preview", json={"definition": flow, "steps": wrong}
        ).json()["failure"]  # fmt: skip
        assert client.post(f"{V1}/automations/preview", json={"definition": flow}).status_code == 422

        assert client.post(f"{V1}/automations", json=RULE).status_code == 201
        assert client.post(f"{V1}/automations", json=flow).status_code == 201
        listed = {a["id"]: a for a in client.get(f"{V1}/automations", params={"limit": 1000}).json()}
        assert listed["k4-rule"]["kind"] == "rule" and listed["k4-tried"]["trigger"] == "event"
        assert client.put(f"{V1}/automations/k4-rule/status", json={"status": "paused"}).status_code == 200
        paused = client.get(f"{V1}/automations", params={"status": "paused", "limit": 1000}).json()
        assert "k4-rule" in [a["id"] for a in paused]
        key = {"idempotency-key": "order-1"}
        about = {"product": "shop", "subject": "user:ann", "facts": {"user": "ann"}}
        started = client.post(f"{V1}/automations/k4-rule/trigger", json=about, headers=key).json()
        assert started["command"] == command_id("acme", "k4-rule", "user:ann", "order-1") and not started["repeated"]
        run = client.post(f"{V1}/automations/k4-tried/trigger", json=about, headers=key).json()
        (word,) = [s for s in signals(gateway, "trigger") if s.get("workflows") == ["k4-tried"]]
        assert word["cause"] == "order-1" and word["data"] == {"user": "ann"}
        assert run["run"] is not None and client.get(f"{V1}/automations/k4-tried/runs").json() == []
        assert client.post(f"{V1}/automations/none/trigger", json=about, headers=key).status_code == 404
        large = {**about, "facts": {"x": "y" * 70_000}}
        assert client.post(f"{V1}/automations/k4-tried/trigger", json=large, headers=key).status_code == 413
    assert T0 + S > T0


def test_a_rule_whose_id_is_a_sentence_can_be_paused(gateway: Served) -> None:
    rule = {
        "kind": "rule",
        "name": "a-sentence",
        "id": "Somebody opens the page (within five minutes).",
        "trigger": {"kind": "viral"},
        "command": {"type": "product.thing.do", "title": "t", "text": "t"},
    }
    with gateway.client("product_director") as client:
        assert client.put("/api/v1/definitions/rule/a-sentence", json=rule).status_code == 200
        paused = client.post("/api/v1/rules/a-sentence/pause")
        assert paused.status_code == 200 and paused.json()["of"] == rule["id"], paused.text
        assert client.post("/api/v1/rules/a-sentence/resume").status_code == 204
        assert client.post("/api/v1/rules/a-sentence/resume").status_code == 404
