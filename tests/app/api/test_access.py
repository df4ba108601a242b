"""Every route × every role × own and foreign tenants × no key and keys that do not hold: as the matrix says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from app.api.access import MATRIX, PERMISSIONS, ROLES, Limits, Permission, Role, hashed, new_key
from app.api.build import build_api
from app.api.definitions import KINDS as ALL_KINDS
from app.definitions import publish, retire
from app.settings import Settings
from schemas.definitions import ApiKey, Definition, Pause, Product, Rule, Segment
from tests.app.api.matrix import EVENT, GUARDED, MATRIX_OF_ROUTES, OPEN, RULE, Entry
from tests.helpers.gateway import Served, serve
from tests.helpers.kafka import delete_topics, fresh_prefix, run_anywhere
from tests.helpers.words import a_batch, a_command, a_detection, a_health_row, a_receipt, a_sink_record, an_adoption_row

FOREIGN, CONTENT = "name-of-other", "c0ntent-of-other"
"""Names of what tenant `other` owns, and what stands in it; whoever reads the latter with a key of `acme` has found a hole."""


@pytest.fixture(scope="module")
def ready(gateway: Served) -> Served:
    with gateway.client("product_director") as client:
        made = client.put("/api/v1/definitions/rule/access-rule", json={**RULE, "id": "access-rule"})
        assert made.status_code == 200, made.text
        assert client.put("/api/v1/products/access/configuration", json={}).status_code == 200
    return gateway


def call(client: httpx.Client, entry: Entry, **params: str) -> httpx.Response:
    return client.request(
        entry.method, entry.url, **{**entry.options, "params": {**entry.options.get("params", {}), **params}}
    )


def routes_of(routes: list[Any], prefix: str = "") -> set[tuple[str, str]]:
    """Every (method, template) that the application answers, whether its document shows it or not."""
    found: set[tuple[str, str]] = set()
    for route in routes:
        if isinstance(route, APIRoute | Route):
            found |= {
                (method, prefix + route.path) for method in route.methods or () if method not in ("HEAD", "OPTIONS")
            }
        else:  # an included router or a mount: what stands in it
            inner = getattr(route, "effective_route_contexts", None)
            assert inner is not None or getattr(route, "routes", None) is not None, f"{route!r} cannot be looked into"
            if inner is not None:
                found |= {(m, c.path) for c in inner() for m in c.methods or () if m not in ("HEAD", "OPTIONS")}
            else:
                found |= routes_of(route.routes, prefix + getattr(route, "path", ""))
    return found


def test_the_matrix_is_the_gateways_routes() -> None:
    """A new route without an entry fails here, and so does an entry whose route is gone."""
    app = build_api(Settings())
    there = routes_of(app.router.routes)
    assert len(there) >= 35
    assert there == {(e.method, e.route) for e in MATRIX_OF_ROUTES}
    kinds = {(e.method, e.path["kind"]) for e in MATRIX_OF_ROUTES if "kind" in e.path and e.method != "GET"}
    assert kinds == {(method, kind) for method in ("PUT", "DELETE") for kind in ALL_KINDS}
    documented = app.openapi()["paths"]
    for entry in GUARDED:
        shown = documented[entry.route.replace(":path}", "}")][entry.method.lower()]
        assert shown["security"] == [{"ApiKey": []}], f"{entry.name} does not say that it needs a key"


def test_a_route_that_is_added_is_missed_by_the_matrix() -> None:
    app = build_api(Settings())
    app.add_api_route("/api/v1/secrets", lambda: None, methods=["GET"])
    extra = routes_of(app.router.routes) - {(e.method, e.route) for e in MATRIX_OF_ROUTES}
    assert extra == {("GET", "/api/v1/secrets")}


@pytest.mark.kafka
@pytest.mark.parametrize("entry", GUARDED, ids=lambda e: e.name)
def test_roles_may_what_the_matrix_says(ready: Served, entry: Entry) -> None:
    for role in ROLES:
        answer = call(ready.kept(role), entry)
        if entry.needs not in MATRIX[role]:
            assert answer.status_code == 403, (role, answer.text)
            assert answer.json()["type"] == "urn:uptake:problem:role-not-allowed"
            assert entry.needs is not None and entry.needs in answer.json()["detail"]
        elif entry.operators_only:
            assert answer.json()["type"] == "urn:uptake:problem:operators-only"
        else:
            assert answer.status_code not in (401, 403), (role, answer.text)
            assert answer.status_code < 500 or "segments" in entry.url, (role, answer.text)


@pytest.mark.kafka
@pytest.mark.parametrize("entry", GUARDED, ids=lambda e: e.name)
def test_a_foreign_tenant_is_refused_to_every_role(ready: Served, entry: Entry) -> None:
    for role in ROLES:
        for foreign in ("other", "all", "nobody"):
            answer = call(ready.kept(role), entry, tenant=foreign)
            assert answer.status_code == 403, (role, foreign, answer.text)
        answer = call(ready.kept(role, "all"), entry, tenant="access-of-all")
        assert (answer.status_code == 403) is (entry.needs not in MATRIX[role]), (role, answer.text)


@pytest.fixture(scope="module")
def useless(gateway: Served) -> dict[str, str]:
    """Keys of every tenant and the mightiest roles that let nobody in: expired, revoked, nearly right."""
    expired, revoked = new_key(), new_key()
    old = ApiKey(tenant="all", name="old", hash=hashed(expired), role="operations", created_at=1, expires_at=2)
    gone = ApiKey(tenant="acme", name="gone", hash=hashed(revoked), role="product_director", created_at=1)
    last = Product(tenant="other", name="after-the-keys")
    run_anywhere(publish(gateway.settings, [old, gone]))
    run_anywhere(retire(gateway.settings, [gone]))
    gateway.define(last)  # read behind them
    good = gateway.keys["all", "operations"]
    return {
        "expired": expired,
        "revoked": revoked,
        "cut": good[:-1],
        "longer": good + "A",
        "another case": good.swapcase(),
    }


@pytest.mark.kafka
@pytest.mark.parametrize("entry", GUARDED, ids=lambda e: e.name)
def test_without_a_key_that_holds_nothing_is_said(ready: Served, useless: dict[str, str], entry: Entry) -> None:
    bearers = [f"Bearer {key}" for key in useless.values()]
    wrong = [{"authorization": a} for a in ("Bearer upt_wrong", "Bearer", "Basic YTpi", *bearers)]
    with httpx.Client(base_url=ready.url, verify=False, timeout=30) as client:
        for headers in ({}, {"x-api-key": "x"}, {"x-api-key": useless["expired"]}, *wrong):
            given = {**entry.options, "headers": {**entry.options.get("headers", {}), **headers}}
            for tenant in ({}, {"tenant": "acme"}):
                asked = {**given, "params": {**entry.options.get("params", {}), **tenant}}
                answer = client.request(entry.method, entry.url, **asked)
                assert answer.status_code == 401, (headers, answer.text)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.headers["content-type"] == "application/problem+json"
                assert "uptake keys create" in answer.json()["detail"]


@pytest.mark.kafka
@pytest.mark.parametrize("entry", OPEN, ids=lambda e: e.name)
def test_what_is_open_to_everybody_holds_nothing_of_a_tenant(marked: Served, entry: Entry) -> None:
    with httpx.Client(base_url=marked.url, verify=False, timeout=30) as client:
        answer = client.request(entry.method, entry.url)
    assert answer.status_code in (200, 404, 503) and FOREIGN not in answer.text
    assert not any(key in answer.text for key in marked.keys.values())


@pytest.fixture(scope="module")
def marked(ready: Served) -> Iterator[Served]:
    """A mark of tenant `other` in every table of the read model and among its definitions, beside rows of `acme`."""
    defined: list[Definition] = []
    for tenant, word, content in (("other", FOREIGN, CONTENT), ("acme", "plain", "content")):
        command = a_command(tenant=tenant, product=word, title=content, subject=f"feature:{word}", rule=word)
        found = a_detection(tenant=tenant, product=word, id=f"d-{word}", subject=f"feature:{word}", feature=content)
        ready.project(
            a_batch("tables.adoption", [an_adoption_row("7d", tenant=tenant, product=word, feature=content)]),
            a_batch("tables.health", [a_health_row(tenant=tenant, product=word, missing=[content])]),
            a_batch("detections", [found]),
            a_batch("commands.product", [command]),
            a_batch("receipts", [a_receipt(command, reason=content)]),
            a_batch("sink", [a_sink_record(command, rendered={"text": content})]),
            a_batch(
                "dead-letters",
                [content.encode()],
                keys=[f"{tenant}|{word}".encode()],
                headed={0: DEAD},
                first=len(word),
            ),
        )
        defined += [
            Segment(tenant=tenant, name=word, product=word, users=[content]),
            Rule.model_validate(
                {**RULE, "kind": "rule", "tenant": tenant, "name": word, "id": word, "description": content}
            ),
            Pause(tenant=tenant, name=f"rule:{word}", scope="rule", of=content),
            Product(tenant=tenant, name=word, features=[content]),
        ]
    ready.define(*defined)
    yield ready
    # Rules among them would fire for others' triggers.
    run_anywhere(retire(ready.settings, defined))
    ready.define(Product(tenant="other", name="after-the-marks"))


DEAD = [
    (f"uptake-{name}", value)
    for name, value in {
        "step": b"meter", "reason": b"invalid", "detail": b"", "topic": b"events.usage", "partition": b"0", "offset": b"3",
        "group": b"meter", "replays": b"0", "at": b"1",
    }.items()
]  # fmt: skip
READS = [e for e in GUARDED if e.method == "GET"]


@pytest.mark.kafka
@pytest.mark.parametrize("entry", READS, ids=lambda e: e.name)
def test_no_answer_holds_what_is_anothers(marked: Served, entry: Entry) -> None:
    """By every role, with the foreign names in the path and in every filter; the owner finds its mark with the same request."""
    asked = {n: FOREIGN if n in ("product_id", "name", "id", "feature", "user") else v for n, v in entry.path.items()}
    named = replace(entry, path=asked)
    filters = [{}, *({name: FOREIGN} for name in ("product", "subject", "rule", "command", "feature"))]
    owned = ""
    for one in (entry, named):
        for params in filters:
            for role in ROLES:
                text = marked.kept(role).get(one.url, params=params).text
                assert CONTENT not in text, (role, params, text)
                # A name that was asked for comes back: "there is no …".
                assert one is named or params or FOREIGN not in text, (role, text)
            owned += marked.kept("operations", "other").get(one.url, params=params).text
    shown = entry.route.rpartition("/")[2] in (
        "products", "metrics", "analytics", "configuration", "definitions", "detections", "commands", "receipts", "deliveries", "sink",
        "dead-letters", "status",
    )  # fmt: skip
    assert (CONTENT if entry.route != "/api/v1/products" else FOREIGN) in owned or not shown, (
        "its owner does not find it either"
    )


def test_every_permission_is_somebodys_and_no_role_has_them_all() -> None:
    given = frozenset[Permission]().union(*MATRIX.values())
    assert given == set(PERMISSIONS)
    assert all(MATRIX[role] < given for role in ROLES)
    readers: frozenset[Permission] = frozenset({"tables:read", "records:read", "definitions:read", "status:read"})
    assert MATRIX["read_only"] == readers


def test_roles_are_those_of_the_definitions() -> None:
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
        with httpx.Client(base_url=gateway.url, headers={"x-api-key": key}, timeout=30) as holder:
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


@pytest.mark.kafka
def test_a_person_is_forgotten_over_http(ready: Served) -> None:
    with ready.client("operations") as client:
        answer = client.delete("/api/v1/subjects/user:ann/of/accounts")
        assert answer.status_code == 202, answer.text
        asked = answer.json()
        assert asked["tenant"] == "acme" and asked["by"] == "test-operations" and not asked["before"]
        assert "ann" not in answer.text
        assert client.delete("/api/v1/subjects/user:ann/of/accounts").json()["before"]
        assert client.delete("/api/v1/subjects/product:studio").json()["type"] == "urn:uptake:problem:bad-subject"
        assert asked["digest"] not in client.get("/api/v1/definitions").text
    with ready.client("operations", "all") as client:
        assert client.delete("/api/v1/subjects/user:ann").json()["type"] == "urn:uptake:problem:which-tenant"
