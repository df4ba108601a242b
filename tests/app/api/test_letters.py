"""Dead letters over HTTP: found by filter, seen by their tenant alone, sent again once and on record."""

from __future__ import annotations

import time

import pytest

from app.kafka import producer
from core.effects import DeadLetter
from tests.helpers.gateway import Served
from tests.helpers.kafka import run_anywhere
from tests.helpers.words import NOON as DAY
from tests.helpers.words import a_batch
from transport.checkpoint import letter_of
from transport.options import Options

pytestmark = pytest.mark.kafka
PATH = "/api/v1/dead-letters"
NOON = DAY + 30 * 86_400_000
"""Later than what other modules leave in the gateway that all of them share."""


@pytest.fixture(scope="module")
def letters(gateway: Served) -> Served:
    """Five letters, in Kafka and in the read model: two of acme, one of other, two of nobody."""
    rows = [
        ("meter", "not_json", "events.usage", b"acme|u", b"oops"),
        ("deliver", "rejected", "deliveries.webhook", b"all|hook", b'{"tenant": "acme"}'),
        ("meter", "invalid", "events.usage", b"other|u", b"{}"),
        ("meter", "invalid", "events.usage", b"acme|u", b'{"tenant": "other"}'),
        ("meter", "invalid", "events.usage", None, b'{"tenant": "acme"}'),
    ]
    assert gateway.settings.kafka is not None
    options = Options(gateway.settings.kafka, "meter", gateway.settings.data_dir, gateway.settings.topic_prefix)
    records = [
        letter_of(DeadLetter(topic, 1, 70 + n, step, reason, "why", key, value, NOON + n), options)
        for n, (step, reason, topic, key, value) in enumerate(rows)
    ]

    async def put() -> None:
        async with producer(gateway.settings) as made:
            for r in records:
                await made.send_and_wait(r.topic, r.value, key=r.key, headers=list(r.headers))

    run_anywhere(put())
    headed = {n: r.headers for n, r in enumerate(records)}
    gateway.project(a_batch("dead-letters", [r.value for r in records], keys=[r.key for r in records], headed=headed))
    return gateway


def test_each_tenant_sees_its_own_and_only_operators_what_is_nobodys(letters: Served) -> None:
    seen: dict[str, list[int]] = {}
    for tenant in ("acme", "other", "all"):
        with letters.client("operations", tenant) as client:
            items = client.get(PATH).json()["items"]
            seen[tenant] = [i["offset"] for i in items if i["offset"] >= 70]
            for i in items:
                assert client.get(f"{PATH}/{i['id']}").json() == i
    assert seen == {"acme": [71, 70], "other": [72], "all": [74, 73, 72, 71, 70]}
    with letters.client("operations") as client:
        assert client.get(f"{PATH}/events.usage:1:72:meter:0").status_code == 404
        assert client.get(PATH, params={"tenant": "other"}).status_code == 403


def test_filters_pages_and_counts(letters: Served) -> None:
    with letters.client("quality", "all") as client:

        def offsets(**asked: object) -> list[int]:
            return [i["offset"] for i in client.get(PATH, params={"since": NOON, **asked}).json()["items"]]  # type: ignore[dict-item]

        assert offsets(reason="rejected") == offsets(step="deliver") == offsets(topic="deliveries.webhook") == [71]
        assert offsets(until=NOON + 1) == [70] and offsets(since=NOON + 3) == [74, 73]
        assert offsets(tenant="acme", reason="not_json") == [70]
        first = client.get(PATH, params={"limit": 2, "since": NOON}).json()
        assert [i["offset"] for i in first["items"]] == [74, 73]
        assert offsets(before=first["next"]) == [72, 71, 70]
        stats = client.get(f"{PATH}/stats", params={"since": NOON, "topic": "events.usage"}).json()
        assert [(s["reason"], s["letters"], s["newest"]) for s in stats] == [
            ("invalid", 3, NOON + 4), ("not_json", 1, NOON),
        ]  # fmt: skip


def test_a_tenants_key_sends_its_own_letters_again(letters: Served) -> None:
    with letters.client("operations") as client:
        dry = client.post(f"{PATH}/redrive", json={"since": NOON}).json()
        assert (dry["matched"], dry["redriven"], dry["dry_run"]) == (2, 2, True)
        made = client.post(f"{PATH}/redrive", json={"since": NOON, "dry_run": False, "reason": "not_json"}).json()
        assert (made["matched"], made["redriven"], made["refused"]) == (1, 1, {})
        again = client.post(f"{PATH}/redrive", json={"since": NOON, "dry_run": False, "reason": "not_json"}).json()
        assert (again["redriven"], again["refused"]) == (0, {"redriven_before": 1})
        (record,) = client.get(f"{PATH}/redrives").json()
        assert record["by"] == "acme/test-operations (operations)" and record["run"] == made["run"]
        assert client.post(f"{PATH}/redrive", json={"rate": 0}).status_code == 422
    with letters.client("operations", "other") as client:
        assert client.get(f"{PATH}/redrives").json() == []
        assert client.post(f"{PATH}/redrive", json={"since": NOON}).json()["matched"] == 1
    (row,) = [r for r in letters.written("events.usage") if r.value == b"oops"]
    assert (row.partition, row.key, list(row.headers)) == (1, b"acme|u", [("uptake-replays", b"1")])


def test_a_letter_about_someone_forgotten_is_not_shown_any_more(letters: Served) -> None:
    """The read model still has it: no PROJECT runs here."""
    value = b'{"tenant": "acme", "user": "eve"}'
    dead = DeadLetter("events.usage", 1, 90, "meter", "invalid", "why", b"acme|eve", value, NOON + 90)
    assert letters.settings.kafka is not None
    options = Options(letters.settings.kafka, "meter", letters.settings.data_dir, letters.settings.topic_prefix)
    record = letter_of(dead, options)
    letters.project(a_batch("dead-letters", [record.value], keys=[record.key], headed={0: record.headers}))
    with letters.client("operations") as client:
        one = f"{PATH}/events.usage:1:90:meter:0"
        assert client.get(one).status_code == 200
        assert client.delete("/api/v1/subjects/user:eve").status_code == 202
        until = time.monotonic() + 60
        while client.get(one).status_code != 404:
            assert time.monotonic() < until, "it is still shown"
            time.sleep(0.05)
        assert 90 not in [i["offset"] for i in client.get(PATH).json()["items"]]
