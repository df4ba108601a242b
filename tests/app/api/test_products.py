from __future__ import annotations

import pytest

from core.meter.task import MeterTask
from schemas.definitions import Product
from tests.helpers.gateway import Served
from tests.helpers.words import NOON, a_batch, a_command, a_detection, a_health_row, an_adoption_row

pytestmark = pytest.mark.kafka
HOUR = 3_600_000


def test_metrics_are_the_last_closed_windows_figures(gateway: Served) -> None:
    rows = [
        an_adoption_row("7d", feature="search", product="metrics"),
        an_adoption_row("7d", feature="export", product="metrics", users=0, adoption_rate=0.0, organic_share=None),
        an_adoption_row("1h", feature="search", product="metrics", users=3),
        an_adoption_row("7d", feature="secret", product="metrics", tenant="other"),
    ]
    gateway.project(a_batch("tables.adoption", rows), a_batch("tables.health", [a_health_row(product="metrics")]))
    with gateway.client("read_only") as client:
        body = client.get("/api/v1/products/metrics/metrics").json()
        assert [(f["feature"], f["users"]) for f in body["features"]] == [("export", 0), ("search", 10)]
        assert (body["health"]["score"], body["window"], body["at"]) == (71.5, "7d", NOON)
        hour = client.get("/api/v1/products/metrics/metrics", params={"window": "1h", "at": NOON + 90_000}).json()
        assert [(f["users"], f["window_end"]) for f in hour["features"]] == [(3, NOON + 60_000)]
        listed = client.get("/api/v1/products").json()
        assert {"tenant": "acme", "product": "metrics", "features": 2} in listed
        assert all(p["tenant"] == "acme" for p in listed)
    with gateway.client("read_only", "all") as client:
        other = client.get("/api/v1/products/metrics/metrics", params={"tenant": "other"}).json()
        assert [f["feature"] for f in other["features"]] == ["secret"]


def test_a_product_nobody_knows_is_not_found(gateway: Served) -> None:
    with gateway.client("read_only") as client:
        for path in ("metrics", "analytics"):
            answer = client.get(f"/api/v1/products/nowhere/{path}")
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:uptake:problem:not-found")


def test_names_with_odd_characters_are_found(gateway: Served) -> None:
    row = an_adoption_row("7d", product="a/b é", feature="x/y?z")
    gateway.project(a_batch("tables.adoption", [row]))
    with gateway.client("product_manager") as client:
        assert client.get("/api/v1/products/a%2Fb%20%C3%A9/metrics").json()["features"][0]["feature"] == "x/y?z"
        members = client.get("/api/v1/products/a%2Fb%20%C3%A9/segments/x%2Fy%3Fz/adopters/members")
        assert (members.status_code, members.json()["size"]) == (200, 0)


def test_analytics_show_how_it_came_about(gateway: Served) -> None:
    rows = [
        an_adoption_row("1d", NOON + i * HOUR, product="trend", adoption_rate=0.2 + i / 10, viral=i == 3)
        for i in range(4)
    ]
    detections = [a_detection(NOON + i * HOUR, product="trend") for i in range(4)]
    commands = [a_command(product="trend", cause=d.id, issued_at=d.at) for d in detections]
    gateway.project(
        a_batch("tables.adoption", rows),
        a_batch("tables.health", [a_health_row(NOON + i * HOUR, product="trend") for i in range(4)]),
        a_batch("detections", detections),
        a_batch("commands.product", commands),
    )
    span = {"since": NOON + HOUR, "until": NOON + 3 * HOUR}
    with gateway.client("read_only") as client:
        body = client.get("/api/v1/products/trend/analytics", params=span).json()
        (trend,) = body["features"]
        assert [r["window_end"] for r in trend["rows"]] == [NOON + i * HOUR for i in (1, 2, 3)]
        assert trend["rate_change"] == pytest.approx(0.2)
        assert [h["at"] for h in body["health"]] == [NOON + i * HOUR for i in (1, 2, 3)]
        assert {d["at"] for d in body["detections"]} == {NOON + i * HOUR for i in (1, 2, 3)}
        assert (body["commands_by_rule"], body["stages"], body["viral"]) == ({"A1.2": 3}, {"growth": 1}, ["search"])
        none = client.get("/api/v1/products/trend/analytics", params={"feature": "nothing"}).json()
        assert none["features"] == []


def test_configuration_is_a_definition_with_versions(gateway: Served) -> None:
    path = "/api/v1/products/configured/configuration"
    with gateway.client("product_manager") as client:
        before = client.get(path).json()
        assert before["slo"] == 0.999
        one = client.put(path, json={"slo": 0.99, "features": ["search"]})
        assert (one.status_code, one.json()["version"], one.json()["slo"]) == (200, 1, 0.99)
        assert client.put(path, json={"slo": 0.99, "features": ["search"]}).json()["version"] == 1
        two = client.put(path, json={"slo": 0.95}, headers={"if-match": '"1"'})
        assert (two.json()["version"], two.json()["features"]) == (2, [])
        late = client.put(path, json={"slo": 0.9}, headers={"if-match": "1"})
        assert (late.status_code, "2" in late.json()["detail"]) == (412, True)
        assert client.get(path).json() == two.json()
        for bad in ({"slo": "much"}, {"nonsense": 1}, {"target_users": 0}, {"stage_window": "9d"}):
            refused = client.put(path, json=bad)
            assert refused.status_code == 422 and next(iter(bad)) in refused.text, refused.text
        odd = client.put("/api/v1/products/with%20space/configuration", json={})
        assert (odd.status_code, odd.json()["type"]) == (422, "urn:uptake:problem:invalid-request")
    keys = [r.key for r in gateway.written("definitions") if b"|product|configured" in (r.key or b"")]
    assert keys.count(b"acme|product|configured") == 2
    assert {b"acme|product|configured|1", b"acme|product|configured|2"} <= set(keys)


def test_members_of_a_segment_come_from_meters_state(gateway: Served) -> None:
    """State that a real METER task drained, written to its topic, read back through the API."""
    import json

    from core.definitions import Catalogue
    from tests.helpers.gateway import write_raw

    partitions = gateway.settings.partitions
    records = []
    for partition in range(partitions):
        task = MeterTask(partition, partitions, Catalogue())
        events = [
            json.dumps({
                "id": f"{partition}-{user}-{feature}", "tenant": "acme", "product": "people", "type": "feature.used",
                "feature": feature, "user": f"u{partition}-{user:02}", "occurred_at": NOON - HOUR,
            }).encode()
            for user in range(10)
            for feature in (("search", "export") if user < 4 else ("export",))
        ]  # fmt: skip
        list(task.step(a_batch("events.usage", events, partition=partition)))
        records += [("state.meter", partition, key, value) for key, value in task.drain()]
    write_raw(gateway.settings, records)
    gateway.project(a_batch("tables.adoption", [an_adoption_row("7d", product="people")]))
    searchers = [f"u{p}-{u:02}" for p in range(partitions) for u in range(4)]
    everybody = [f"u{p}-{u:02}" for p in range(partitions) for u in range(10)]
    path = "/api/v1/products/people/segments"
    with gateway.client("product_manager") as client:
        pages, after = [], None
        while True:
            params = {"limit": 5} | ({"after": after} if after else {})
            page = client.get(f"{path}/search/adopters/members", params=params).json()  # type: ignore[arg-type]
            pages.append(page["members"])
            after = page["next"]
            if after is None:
                break
        assert [len(p) for p in pages] == [5, 5, 2]
        assert [user for page in pages for user in page] == searchers
        others = client.get(f"{path}/search/non_adopters/members").json()
        assert others["members"] == [u for u in everybody if u not in searchers]
        active = client.get(f"{path}/*/active_users/members").json()
        assert (active["members"], active["size"]) == (everybody, len(everybody))
        assert client.get(f"{path}/search/lovers/members").status_code == 422
    with gateway.client("product_manager", "other") as client:
        assert client.get(f"{path}/search/adopters/members").json()["members"] == []


def test_how_likely_a_user_stays_away_is_learnt_from_the_users_of_their_partition(gateway: Served) -> None:
    import json

    from core.definitions import Catalogue
    from core.meter.keys import partition_of
    from tests.helpers.gateway import write_raw

    partitions = gateway.settings.partitions
    users = [f"w{n}" for n in range(500 * partitions)]
    partition = partition_of(b"acme|w0", partitions)
    events = [
        json.dumps({
            "id": f"{user}-{day}", "tenant": "acme", "product": "weary", "type": "feature.used", "feature": "f",
            "user": user, "occurred_at": NOON - day * 24 * HOUR,
        }).encode()
        for day in range(27, -1, -1)
        for n, user in enumerate(users)
        if partition_of(f"acme|{user}".encode(), partitions) == partition and (day > 14 if n % 3 else day % 2 == n % 2)
    ]  # fmt: skip
    task = MeterTask(partition, partitions, Catalogue())
    list(task.step(a_batch("events.usage", events, partition=partition)))
    write_raw(gateway.settings, [("state.meter", partition, key, value) for key, value in task.drain()])
    path = "/api/v1/products/weary/inactivity"
    gone = next(u for n, u in enumerate(users) if n % 3 and partition_of(f"acme|{u}".encode(), partitions) == partition)
    with gateway.client("product_manager") as client:
        here = client.get(path, params={"user": "w0"}).json()
        assert here["probability"] < 0.1 and here["trusted"] and here["days"] == 7 and here["active_days"] >= 10
        away = client.get(path, params={"user": gone, "days": 5}).json()
        assert away["probability"] > 0.9 and away["gap_days"] == 15 and away["users"] > 200
        for wrong in ({"user": "w0", "days": 15}, {"days": 7}):
            assert client.get(path, params=wrong).status_code == 422  # type: ignore[arg-type]
        none = client.get("/api/v1/products/unknown/inactivity", params={"user": "w0"})
        assert none.status_code == 404 and "fewer than 200 users" in none.text
    with gateway.client("product_manager", "other") as client:
        assert client.get(path, params={"user": "w0"}).status_code == 404


def test_a_users_profile_is_read_from_their_partition(gateway: Served) -> None:
    import json

    from core.definitions import Catalogue
    from core.meter.keys import partition_of
    from tests.helpers.gateway import write_raw

    partitions = gateway.settings.partitions
    records = []
    users = ("ann", "bob/é", "carl")
    for partition in range(partitions):
        mine = [user for user in users if partition_of(f"acme|{user}".encode(), partitions) == partition]
        events = [
            json.dumps({
                "id": f"{user}-{i}", "tenant": "acme", "product": "known", "type": "feature.used", "feature": "f",
                "user": user, "occurred_at": NOON - i * HOUR, "attribution": "campaign:x" if user == "ann" else "organic",
            }).encode()
            for user in mine
            for i in (0, 3, 20)
        ]  # fmt: skip
        if events:
            task = MeterTask(partition, partitions, Catalogue())
            list(task.step(a_batch("events.usage", events, partition=partition)))
            records += [("state.meter", partition, key, value) for key, value in task.drain()]
    write_raw(gateway.settings, records)
    with gateway.client("product_manager") as client:
        found = client.get("/api/v1/products/known/users/ann").json()
        midnight = NOON - 12 * HOUR
        assert {name: found[name] for name in found if name != "read_at"} == {
            "tenant": "acme", "product": "known", "user": "ann", "first_seen": NOON - 20 * HOUR, "last_seen": NOON,
            "events": 3, "active_days": [midnight - 24 * HOUR, midnight], "first_use": "attributed",
        }  # fmt: skip
        assert client.get("/api/v1/products/known/users/bob%2F%C3%A9").json()["first_use"] == "organic"
        for path in ("known/users/nobody", "unknown/users/ann"):
            assert client.get(f"/api/v1/products/{path}").status_code == 404
    with gateway.client("product_manager", "other") as client:
        assert client.get("/api/v1/products/known/users/ann").status_code == 404


def test_defaults_are_those_of_the_definition(gateway: Served) -> None:
    with gateway.client("read_only") as client:
        found = client.get("/api/v1/products/untouched/configuration").json()
    assert Product.model_validate(found) == Product(tenant="acme", name="untouched")
