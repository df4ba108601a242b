"""The access matrix: every route of the gateway, what it needs, and a request that would do something. `test_access` judges by it.

A route that is not here, or a line here that is no route, fails `test_the_matrix_is_the_gateways_routes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.api.access import Permission

EVENT = {"id": "a1", "type": "feature.used", "feature": "f", "user": "u", "occurred_at": 1}
RULE = {
    "id": "X9",
    "trigger": {"kind": "viral"},
    "command": {"type": "product.thing.do", "title": "t", "text": "t"},
}
WORKFLOW = {
    "id": "X10",
    "trigger": {"kind": "viral"},
    "start": "a",
    "nodes": [{"kind": "act", "id": "a", "command": RULE["command"]}],
}
KINDS: dict[str, dict[str, Any]] = {
    "product": {"slo": 0.99},
    "segment": {"product": "p", "users": ["u"]},
    "campaign": {"product": "p", "steps": ["hello"]},
    "source": {"topic": "t", "target": "events.usage", "fields": {"id": "id"}},
    "rule": RULE,
    "workflow": WORKFLOW,
    "threshold": {"metric": "error_rate", "op": ">", "limit": 0.1},
    "detector": {"metric": "events"},
    "prediction": {"model": "inactivity"},
    "connection": {"integration": "kafka", "config": {"topic": "acme.theirs"}},
    "pause": {"scope": "tenant", "of": "acme"},
    "silence": {"ends_at": 1},
    "policy": {"approval": ["connection"]},
}
TRIGGER = {"product": "access", "rules": ["access-rule"], "feature": "f"}
PUBLIC = None
"""No key is asked for: the page, its parts, probes, metrics, the document; an address of a hook is its own key."""


@dataclass(frozen=True)
class Entry:
    """One route, or one kind of a route of many."""

    method: str
    route: str
    """The template, as the router has it."""
    needs: Permission | None
    path: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        made = self.route.replace(":path}", "}")
        for name, value in self.path.items():
            made = made.replace("{" + name + "}", value)
        assert "{" not in made, made
        return made

    @property
    def name(self) -> str:
        return f"{self.method} {self.url}"

    @property
    def operators_only(self) -> bool:
        """No key of one tenant may, whatever its role: a source reads topics of the whole cluster."""
        return self.needs == "source:write"


V1 = "/api/v1"
P = V1 + "/products/{product_id:path}"
OF = {"product_id": "access"}


def _entries() -> Iterator[Entry]:
    yield Entry("POST", f"{P}/events", "events:write", OF, {"json": EVENT})
    yield Entry("GET", f"{V1}/products", "tables:read")
    yield Entry("GET", f"{P}/metrics", "tables:read", OF)
    yield Entry("GET", f"{P}/analytics", "tables:read", OF)
    for page in ("correlation", "correlation.html"):
        yield Entry("GET", f"{P}/analyses/{page}", "tables:read", OF, {"params": {"feature": "f"}})
    deal = {"users": 1, "price_month": 1, "hours_saved_month": 1, "hour_cost": 1}
    for page in ("return", "return.html"):
        yield Entry("GET", f"{P}/analyses/{page}", "tables:read", OF, {"params": deal})
    yield Entry("GET", f"{P}/configuration", "definitions:read", OF)
    yield Entry("PUT", f"{P}/configuration", "product:write", OF, {"json": {"slo": 0.99}})
    members = {**OF, "feature": "f", "which": "adopters"}
    yield Entry("GET", f"{P}/segments/{{feature:path}}/{{which}}/members", "members:read", members)
    yield Entry("GET", f"{P}/inactivity", "members:read", OF, {"params": {"user": "u"}})
    yield Entry("GET", f"{P}/users/{{user:path}}", "members:read", {**OF, "user": "u"})
    yield Entry("GET", f"{V1}/segments/{{name}}/members", "members:read", {"name": "access-segment"})
    yield Entry("GET", f"{V1}/people/{{subject:path}}", "members:read", {"subject": "user:u"})
    for automation in ("feature-adoption", "product-health", "performance-optimization", "market-opportunity"):
        options = {"json": TRIGGER, "headers": {"idempotency-key": "k1"}}
        yield Entry("POST", f"{V1}/automation/triggers/{automation}", "triggers:write", {}, options)
    yield from _automations()
    yield Entry("GET", f"{V1}/definitions", "definitions:read")
    one = V1 + "/definitions/{kind}/{name}"
    yield Entry("GET", one, "definitions:read", {"kind": "rule", "name": "access-rule"})
    for kind, body in KINDS.items():
        needs: Any = {
            "detector": "threshold:write",
            "prediction": "threshold:write",
            "workflow": "rule:write",
            "policy": "approvals:write",
            "campaign": "segment:write",
        }.get(kind, f"{kind}:write")
        yield Entry("PUT", one, needs, {"kind": kind, "name": "tried"}, {"json": body})
        yield Entry("DELETE", one, needs, {"kind": kind, "name": "never"})
    for verb in ("pause", "resume"):
        yield Entry("POST", f"{V1}/rules/{{name}}/{verb}", "pause:write", {"name": "access-rule"})
    hook = {"product": "access", "target": "events.usage", "fields": {"user": "who"}, "constants": {"feature": "f"}}
    yield Entry("GET", f"{V1}/hooks", "hook:write")
    yield Entry("POST", f"{V1}/hooks", "hook:write", {}, {"json": {"name": "access-hook", **hook}})
    yield Entry("DELETE", f"{V1}/hooks/{{name}}", "hook:write", {"name": "never"})
    yield Entry("GET", f"{V1}/keys", "keys:write")
    yield Entry("POST", f"{V1}/keys", "keys:write", {}, {"json": {"name": "test-quality", "role": "quality"}})
    yield Entry("DELETE", f"{V1}/keys/{{name}}", "keys:write", {"name": "never"})
    for listed in ("detections", "commands", "receipts", "deliveries", "sink", "outcomes", "outcomes/reports"):
        yield Entry("GET", f"{V1}/{listed}", "records:read")
    letters = f"{V1}/dead-letters"
    yield Entry("GET", letters, "dead_letters:read")
    yield Entry("GET", f"{letters}/stats", "dead_letters:read")
    yield Entry("GET", f"{letters}/redrives", "dead_letters:read")
    yield Entry("POST", f"{letters}/redrive", "dead_letters:redrive", {}, {"json": {}})
    yield Entry("GET", f"{letters}/{{id}}", "dead_letters:read", {"id": "x"})
    yield Entry("DELETE", f"{V1}/subjects/{{subject:path}}", "subjects:forget", {"subject": "user:nobody"})
    yield Entry("GET", f"{V1}/trace/{{id}}", "records:read", {"id": "x"})
    yield Entry("GET", f"{V1}/activity", "records:read")
    yield Entry("GET", f"{V1}/insight", "records:read")
    asked = {"params": {"rule": "access-rule", "subject": "feature:f", "product": "access"}}
    yield Entry("GET", f"{V1}/why", "records:read", {}, asked)
    yield Entry("GET", f"{V1}/status", "status:read")
    for probe in ("livez", "readyz", "startedz", "metrics", "openapi.json"):
        yield Entry("GET", f"/{probe}", PUBLIC)
    yield Entry("GET", "/", PUBLIC)
    yield Entry("POST", "/hooks/{address}", PUBLIC, {"address": "nobody-made-this"})
    yield Entry("GET", "/static/{name}", PUBLIC, {"name": "status.css"})


def _automations() -> Iterator[Entry]:
    """Workflows, automations and runs."""
    flows, autos, runs = f"{V1}/workflows", f"{V1}/automations", f"{V1}/runs"
    yield Entry("GET", f"{flows}/active", "definitions:read")
    yield Entry("POST", f"{flows}/create", "rule:write", {}, {"json": {**WORKFLOW, "name": "made"}})
    status = {"json": {"status": "paused"}}
    yield Entry("PUT", f"{flows}/{{id}}/status", "pause:write", {"id": "never"}, status)
    yield Entry("GET", f"{flows}/{{id}}/results", "records:read", {"id": "never"})
    yield Entry("POST", f"{flows}/{{id}}/preview", "rule:write", {"id": "made"}, {"json": WORKFLOW})
    yield Entry("GET", autos, "definitions:read")
    yield Entry("POST", autos, "rule:write", {}, {"json": {**RULE, "kind": "rule", "name": "made"}})
    yield Entry("PUT", f"{autos}/{{id}}/status", "pause:write", {"id": "never"}, status)
    tried = {"definition": {**RULE, "kind": "rule", "name": "tried"}, "given": {}}
    yield Entry("POST", f"{autos}/preview", "rule:write", {}, {"json": tried})
    started = {"json": {"product": "access", "subject": "user:u"}, "headers": {"idempotency-key": "k1"}}
    yield Entry("POST", f"{autos}/{{id}}/trigger", "triggers:write", {"id": "access-rule"}, started)
    yield Entry("GET", f"{autos}/{{id}}/runs", "records:read", {"id": "access-rule"})
    yield Entry("GET", f"{V1}/approvals", "definitions:read")
    for verb in ("approve", "reject"):
        yield Entry("POST", f"{V1}/approvals/{{name}}/{verb}", "approvals:write", {"name": "rule:never"})
    yield Entry("GET", runs, "records:read")
    yield Entry("GET", f"{runs}/{{id}}", "records:read", {"id": "never"})
    yield Entry("POST", f"{runs}/{{word}}", "runs:write", {"word": "pause"}, {"json": {"workflow": "never"}})


MATRIX_OF_ROUTES = list(_entries())
GUARDED = [e for e in MATRIX_OF_ROUTES if e.needs is not PUBLIC]
OPEN = [e for e in MATRIX_OF_ROUTES if e.needs is PUBLIC]
