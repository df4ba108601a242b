"""Every endpoint × every role × a foreign tenant."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.api.access import MATRIX, PERMISSIONS, ROLES, Limits, Permission, Role, hashed, new_key
from app.api.build import build_api
from app.settings import Settings
from tests.helpers.gateway import Served, serve
from tests.helpers.kafka import delete_topics, fresh_prefix

EVENT = {"id": "a1", "type": "feature.used", "feature": "f", "user": "u", "occurred_at": 1}
RULE = {
    "id": "X9",
    "trigger": {"kind": "viral"},
    "command": {"type": "product.thing.do", "title": "t", "text": "t"},
}
SINK = {"integration": "kafka", "config": {"topic": "acme.theirs"}}
KINDS: dict[str, dict[str, Any]] = {
    "product": {"slo": 0.99},
    "segment": {"product": "p", "users": ["u"]},
    "source": {"topic": "t", "target": "events.usage", "fields": {"id": "id"}},
    "rule": RULE,
    "threshold": {"metric": "error_rate", "op": ">", "limit": 0.1},
    "connection": SINK,
    "pause": {"scope": "tenant", "of": "acme"},
    "silence": {"ends_at": 1},
}
IDEMPOTENT = {"idempotency-key": "k1"}
TRIGGER = {"product": "access", "rules": ["access-rule"], "feature": "f"}

ENDPOINTS: list[tuple[str, str, Permission, dict[str, Any]]] = [
    ("POST", "/products/access/events", "events:write", {"json": EVENT}),
    ("GET", "/products", "tables:read", {}),
    ("GET", "/products/access/metrics", "tables:read", {}),
    ("GET", "/products/access/analytics", "tables:read", {}),
    ("GET", "/products/access/configuration", "definitions:read", {}),
    ("PUT", "/products/access/configuration", "product:write", {"json": {"slo": 0.99}}),
    ("GET", "/products/access/segments/f/adopters/members", "members:read", {}),
    ("GET", "/products/access/users/u", "members:read", {}),
    *(
        ("POST", f"/automation/triggers/{name}", "triggers:write", {"json": TRIGGER, "headers": IDEMPOTENT})
        for name in ("feature-adoption", "product-health", "performance-optimization", "market-opportunity")
    ),
    ("GET", "/definitions", "definitions:read", {}),
    ("GET", "/definitions/rule/access-rule", "definitions:read", {}),
    *(("PUT", f"/definitions/{kind}/tried", f"{kind}:write", {"json": body}) for kind, body in KINDS.items()),
    *(("DELETE", f"/definitions/{kind}/never", f"{kind}:write", {}) for kind in KINDS),
    ("POST", "/rules/access-rule/pause", "pause:write", {}),
    ("POST", "/rules/access-rule/resume", "pause:write", {}),
    ("GET", "/keys", "keys:write", {}),
    ("POST", "/keys", "keys:write", {"json": {"name": "test-quality", "role": "quality"}}),
    ("DELETE", "/keys/never", "keys:write", {}),
    ("GET", "/detections", "records:read", {}),
    ("GET", "/commands", "records:read", {}),
    ("GET", "/receipts", "records:read", {}),
    ("GET", "/deliveries", "records:read", {}),
    ("GET", "/sink", "records:read", {}),
    ("GET", "/dead-letters", "dead_letters:read", {}),
    ("GET", "/trace/x", "records:read", {}),
    ("GET", "/status", "status:read", {}),
]  # type: ignore[list-item]
NAMES = [f"{method} {path}" for method, path, *_ in ENDPOINTS]


@pytest.fixture(scope="module")
def ready(gateway: Served) -> Served:
    with gateway.client("product_director") as client:
        made = client.put("/api/v1/definitions/rule/access-rule", json={**RULE, "id": "access-rule"})
        assert made.status_code == 200, made.text
        assert client.put("/api/v1/products/access/configuration", json={}).status_code == 200
    return gateway


def call(client: httpx.Client, method: str, path: str, options: dict[str, Any], **params: str) -> httpx.Response:
    return client.request(method, f"/api/v1{path}", params=params, **options)


def test_no_endpoint_is_forgotten() -> None:
    documented = build_api(Settings()).openapi()["paths"]
    there = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in documented.items()
        if path.startswith("/api/v1")
        for method in methods
    }
    assert len(there) >= 25
    filled = {"{product_id}": "access", "{feature}": "f", "{which}": "adopters", "{user}": "u", "{id}": "x"}
    tested = {(method, path) for method, path, *_ in ENDPOINTS}
    for method, path in there:
        for name, value in filled.items():
            path = path.replace(name, value)
        if "{kind}" in path:
            for kind in KINDS:
                name = {"GET": "access-rule", "PUT": "tried", "DELETE": "never"}[method]
                of = path.replace("{kind}", kind).replace("{name}", name)
                assert (method, of) in tested or (method == "GET" and kind != "rule"), of
        else:
            assert any(
                m == method and (p == path or (p.split("/")[:2] == path.split("/")[:2] and "{name}" in path))
                for m, p in tested
            ), (method, path)


@pytest.mark.kafka
@pytest.mark.parametrize(("method", "path", "permission", "options"), ENDPOINTS, ids=NAMES)
def test_roles_may_what_the_matrix_says(
    ready: Served, method: str, path: str, permission: Permission, options: dict[str, Any]
) -> None:
    for role in ROLES:
        with ready.client(role) as client:
            answer = call(client, method, path, options)
        if permission == "source:write" and permission in MATRIX[role]:
            assert answer.json()["type"] == "urn:uptake:problem:operators-only"  # no tenant may: it reads any topic
        elif permission in MATRIX[role]:
            assert answer.status_code not in (401, 403), (role, answer.text)
            assert answer.status_code < 500 or "segments" in path, (role, answer.text)
        else:
            assert answer.status_code == 403, (role, answer.text)
            assert answer.json()["type"] == "urn:uptake:problem:role-not-allowed"
            assert permission in answer.json()["detail"]


@pytest.mark.kafka
@pytest.mark.parametrize(("method", "path", "permission", "options"), ENDPOINTS, ids=NAMES)
def test_a_foreign_tenant_is_refused_to_every_role(
    ready: Served, method: str, path: str, permission: Permission, options: dict[str, Any]
) -> None:
    for role in ROLES:
        for foreign in ("other", "all"):
            with ready.client(role) as client:
                answer = call(client, method, path, options, tenant=foreign)
            assert answer.status_code == 403, (role, foreign, answer.text)


@pytest.mark.kafka
@pytest.mark.parametrize(("method", "path", "permission", "options"), ENDPOINTS, ids=NAMES)
def test_without_a_key_nothing_is_said(
    ready: Served, method: str, path: str, permission: Permission, options: dict[str, Any]
) -> None:
    for headers in ({}, {"authorization": "Bearer upt_wrong"}, {"authorization": "Basic YTpi"}, {"x-api-key": "x"}):
        with httpx.Client(base_url=ready.url) as client:
            merged = {**options, "headers": {**options.get("headers", {}), **headers}}
            answer = call(client, method, path, merged)
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
        assert "uptake keys create" in answer.json()["detail"]


def test_every_permission_is_somebodys_and_no_role_has_them_all() -> None:
    given = frozenset[Permission]().union(*MATRIX.values())
    assert given == set(PERMISSIONS)
    assert all(MATRIX[role] < given for role in ROLES)
    readers: frozenset[Permission] = frozenset({"tables:read", "records:read", "definitions:read", "status:read"})
    assert MATRIX["read_only"] == readers


def test_roles_are_those_of_the_definitions() -> None:
    from schemas.definitions import ApiKey

    assert set(ApiKey.model_fields["role"].annotation.__args__) == set(ROLES)  # type: ignore[union-attr]
    role: Role = "quality"
    assert ApiKey(name="k", hash="h", role=role, created_at=0).role == role


def test_keys_differ_and_only_their_hash_is_kept() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(k) >= 47 and k not in hashed(k) for k in keys)


@pytest.mark.kafka
def test_a_key_can_be_made_and_revoked_over_http_and_is_never_shown_again(gateway: Served) -> None:
    with gateway.client("operations", "other") as boss:
        made = boss.post("/api/v1/keys", json={"name": "temp", "role": "read_only"})
        assert made.status_code == 201
        key = made.json()["key"]
        assert boss.post("/api/v1/keys", json={"name": "temp", "role": "read_only"}).status_code == 409
        with httpx.Client(base_url=gateway.url, headers={"x-api-key": key}) as holder:
            assert holder.get("/api/v1/products").status_code == 200
            listed = boss.get("/api/v1/keys").text + boss.get("/api/v1/definitions").text
            assert '"temp"' in listed and key not in listed and hashed(key) not in listed
            assert boss.delete("/api/v1/keys/temp").status_code == 204
            assert holder.get("/api/v1/products").status_code == 401
    stand = b"".join((r.value or b"") + (r.key or b"") for r in gateway.written("definitions"))
    assert key.encode() not in stand and hashed(key).encode() in stand


@pytest.mark.kafka
def test_a_key_has_its_rate(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    prefix = fresh_prefix("rate")
    with serve(
        kafka, prefix, tmp_path_factory.mktemp("rate"), ("acme",), api_requests_per_s=2, api_events_per_s=3
    ) as served:
        with served.client("quality") as one, served.client("operations") as two:
            answers = [one.get("/api/v1/products") for _ in range(8)]
            assert [a.status_code for a in answers][:4] == [200] * 4
            refused = answers[-1]
            assert (refused.status_code, refused.json()["type"]) == (429, "urn:uptake:problem:too-many")
            assert int(refused.headers["retry-after"]) >= 1
            batch = [{**EVENT, "id": f"r{i}"} for i in range(50)]  # above any burst: let through once, paid back after
            assert two.post("/api/v1/products/p/events", json=batch).status_code == 202
            assert two.post("/api/v1/products/p/events", json=batch).status_code == 429
    delete_topics(kafka, prefix)


def test_buckets_fill_again_with_time() -> None:
    now = 0.0
    limits = Limits(rate=2, burst=4, clock=lambda: now)
    assert [limits.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert limits.take("b") == 0
    now = 0.5
    assert (limits.take("a"), limits.take("a")) == (0, 0.5)
    now = 100.0
    assert limits.take("a", 10) == 0
    assert limits.take("a") == pytest.approx(3.5)
