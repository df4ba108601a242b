"""What `uptake plan` refuses, the API refuses too, with path and reason; and CEL is written and read back as its tree."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.gateway import Served

pytestmark = pytest.mark.kafka

RULE: dict[str, Any] = {
    "id": "planned",
    "trigger": {"kind": "event", "topic": "events.usage", "where": 'feature == "export"'},
    "when": "properties.seats > 5",
    "command": {"type": "product.note.write", "title": "{{ user }}", "text": "{{ reason }}"},
}
EVERYBODY = {"tenant": "all"}
PATH = "/api/v1/definitions/rule/planned"


@pytest.mark.parametrize(
    ("changed", "at", "why"),
    [
        ({"typo": 1}, "typo", "Extra inputs"),
        ({"when": "properties.seats >"}, "when", "line 1, column 19: the condition ends too early"),
        ({"when": "!" * 5_000 + "x"}, "when", "of one sign"),
        ({"when": "(" * 2_000}, "when", "nest deeper"),
        ({"when": "usr == 'x'"}, "condition.field", "did you mean user?"),
        ({"when": "feature == 5"}, "condition.value", "it is a text, never a number"),
        ({"command": {**RULE["command"], "title": "{{ usr }}"}}, "command.title", "did you mean user?"),
        ({"trigger": {"kind": "schedule", "cron": "0 0 31 2 *"}}, "trigger", "day-of-month"),
        ({"trigger": {"kind": "schedule", "cron": "0 0 * * *", "zone": "Mars/Base"}}, "zone", "IANA"),
        ({"trigger": {"kind": "inactivity", "topic": "events.usage"}}, "after_s", "required"),
    ],
)
def test_refused_with_path_and_reason(gateway: Served, changed: dict[str, Any], at: str, why: str) -> None:
    with gateway.client("product_director") as client:
        answer = client.put(PATH, json={**RULE, **changed})
        assert answer.status_code == 422 and answer.json()["type"].endswith("invalid-definition"), answer.text
        found = [e for e in answer.json()["errors"] if why in e["why"]]
        assert found and at in found[0]["at"], answer.json()
        assert client.get(PATH).status_code == 404


def test_written_as_cel_and_read_back_as_a_tree(gateway: Served) -> None:
    with gateway.client("product_director") as client:
        path = PATH.replace("planned", "cel")
        assert client.put(path, json={**RULE, "id": "cel"}).status_code == 200
        body = client.get(path).json()
        assert body["condition"] == {"kind": "compare", "field": "properties.seats", "op": ">", "value": 5}
        assert body["trigger"]["where"] == {"kind": "compare", "field": "feature", "op": "==", "value": "export"}
        kept = {k: v for k, v in body.items() if k not in ("tenant", "kind", "name", "version")}
        assert client.put(path, json=kept).json()["version"] == body["version"], (
            "what was read is written back unchanged"
        )


def test_a_loop_is_refused(gateway: Served) -> None:
    source = {"topic": "commands.marketing", "target": "events.usage", "fields": {"user": "subject"}}
    rule = {**RULE, "id": "loop", "command": {**RULE["command"], "type": "marketing.note.write"}}
    with gateway.client("operations", "all") as operator, gateway.client("product_director", "all") as director:
        assert operator.put("/api/v1/definitions/source/back", json=source, params=EVERYBODY).status_code == 200
        answer = director.put(PATH.replace("planned", "loop"), json=rule, params=EVERYBODY)
        assert answer.status_code == 422 and "source back → events.usage → rule loop" in answer.json()["detail"]
        other = {**rule, "command": {**RULE["command"], "type": "sales.note.write"}}
        assert director.put(PATH.replace("planned", "loop"), json=other, params=EVERYBODY).status_code == 200
        for what in ("source/back", "rule/loop"):
            client = operator if what.startswith("source") else director
            assert client.delete(f"/api/v1/definitions/{what}", params=EVERYBODY).status_code == 204
