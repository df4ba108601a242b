"""Quotas of tenants: several keys share one bucket, neighbours do not feel it, and the metrics stay small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.api import access
from app.api.access import Caller, Limits
from app.api.problems import Problem
from app.api.quotas import NAMED_TENANTS, OTHERS, Quotas
from app.settings import Settings
from app.telemetry import Telemetry
from tests.app.api.matrix import EVENT, RULE
from tests.helpers.gateway import serve
from tests.helpers.kafka import delete_topics, fresh_prefix


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock | None = None, **changed: Any) -> tuple[Quotas, Telemetry]:
    telemetry = Telemetry(process=False)
    return Quotas(Settings(**changed), telemetry, clock or Clock()), telemetry


def caller(tenant: str = "acme", name: str = "k") -> Caller:
    return Caller(name, tenant, "operations")


def refused(quotas: Quotas, *arguments: Any) -> str | None:
    try:
        quotas.events(*arguments) if len(arguments) > 1 else quotas.requests(*arguments)
    except Problem as problem:
        assert problem.status == 429 and int((problem.headers or {})["retry-after"]) >= 1
        return problem.detail
    return None


def test_keys_of_one_tenant_share_its_bucket_and_others_have_their_own() -> None:
    clock = Clock()
    quotas, telemetry = made(clock, tenant_requests_per_s=2)
    assert [refused(quotas, caller(name=f"k{n}")) is None for n in range(5)] == [True] * 4 + [False]
    assert "this tenant" in str(refused(quotas, caller(name="fresh")))
    assert refused(quotas, caller("other")) is None
    clock.now = 0.5
    assert refused(quotas, caller()) is None
    text = telemetry.text().decode()
    assert 'uptake_gateway_refused_total{bound="tenant_requests",tenant="acme"} 2.0' in text


def test_events_count_for_the_tenant_they_are_for_whoever_sends_them() -> None:
    quotas, telemetry = made(tenant_events_per_s=10)
    operator = Caller("o", "all", "operations")
    assert refused(quotas, operator, "acme", 15) is None
    assert "events for this tenant" in str(refused(quotas, caller(), "acme", 15))
    assert refused(quotas, operator, "other", 15) is None
    assert 'uptake_gateway_events_total{outcome="refused",tenant="acme"} 15.0' in telemetry.text().decode()


def test_single_tenants_may_have_more_or_less() -> None:
    quotas, _ = made(tenant_requests_per_s=2, tenant_factors={"big": 4, "small": 0.25})
    taken = {t: sum(refused(quotas, caller(t)) is None for _ in range(40)) for t in ("big", "small", "plain")}
    assert taken == {"big": 16, "small": 1, "plain": 4}
    for there, fine in ((7, True), (8, False)):
        quotas, _ = made(tenant_definitions=2, tenant_factors={"big": 4})
        if fine:
            quotas.definitions(caller("big"), "big", there)
        else:
            with pytest.raises(Problem, match="8 are allowed") as caught:
                quotas.definitions(caller("big"), "big", there)
            assert caught.value.status == 409
        quotas.definitions(Caller("o", "all", "operations"), "big", there)  # the operator is not held to it


def test_metrics_name_a_hundred_tenants_and_no_more() -> None:
    quotas, telemetry = made()
    for n in range(NAMED_TENANTS + 50):
        quotas.count(f"t{n}", 1, 0)
    lines = [line for line in telemetry.text().decode().splitlines() if line.startswith("uptake_gateway_events_total{")]
    assert len(lines) == NAMED_TENANTS + 1
    assert f'uptake_gateway_events_total{{outcome="accepted",tenant="{OTHERS}"}} 50.0' in lines


def test_buckets_that_are_full_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_BUCKETS", 100)
    clock = Clock()
    limits = Limits(rate=1, burst=2, clock=clock)
    for n in range(1_000):
        clock.now = n / 10
        limits.take(f"key{n}", 2)
        limits.take("busy", 1)
    assert len(limits._buckets) <= 122
    assert limits.take("busy", 1) > 0, "the one in use was not forgotten"


@pytest.mark.kafka
def test_over_http(kafka: str, tmp_path: Path) -> None:
    prefix = fresh_prefix("quotas")
    bounds: dict[str, Any] = {"tenant_events_per_s": 5, "tenant_definitions": 8, "tenant_requests_per_s": 5}
    with serve(kafka, prefix, tmp_path, ("acme", "other"), **bounds) as served:
        batch = [{**EVENT, "id": f"q{n}"} for n in range(10)]
        with (
            served.client("operations") as one,
            served.client("development") as two,
            served.client("operations", "other") as three,
        ):
            assert one.post("/api/v1/products/p/events", json=batch).status_code == 202
            answer = two.post("/api/v1/products/p/events", json=batch)
            assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
            assert int(answer.headers["retry-after"]) >= 1 and "for this tenant" in answer.json()["detail"]
            assert three.post("/api/v1/products/p/events", json=batch).status_code == 202
            text = one.get("/metrics").text
            assert 'uptake_gateway_events_total{outcome="accepted",tenant="acme"} 10.0' in text
            assert 'uptake_gateway_events_total{outcome="refused",tenant="acme"} 10.0' in text
        with served.client("product_director") as boss:  # six keys are there already
            codes = [
                boss.put(f"/api/v1/definitions/rule/r{n}", json={**RULE, "id": f"r{n}"}).status_code for n in range(3)
            ]
            assert codes == [200, 200, 409]
            assert boss.put("/api/v1/definitions/rule/r0", json={**RULE, "id": "r0", "tags": ["x"]}).status_code == 200
    delete_topics(kafka, prefix)
