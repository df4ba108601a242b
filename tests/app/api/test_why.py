"""The activity log, why, and insight over HTTP: whose they are, who may, and that the figures are counted."""

from __future__ import annotations

import msgspec
import pytest

from core.workflows.jobs import Note, Record, Start
from tests.helpers.gateway import Served
from tests.helpers.words import NOON, a_batch, a_command, a_detection, a_receipt, an_adoption_row

pytestmark = pytest.mark.kafka
DAY = 86_400_000


def a_record(run: str, *notes: Note, status: str = "running") -> bytes:
    job = Start(NOON, run, "user:ann", "told", {}, [])
    made = Record(run, "acme", "user:ann", "told-journey", {"": 1}, 1, NOON, job, list(notes), [], status)
    return msgspec.json.encode(made)


def test_activity_pages_and_is_the_tenants_own(gateway: Served) -> None:
    mine = [
        a_command(product="active", rule="T1", cause=f"c{i}", issued_at=NOON + i, subject="user:ann") for i in range(7)
    ]
    other = a_command(tenant="other", product="active", rule="T1", subject="user:ann")
    held = a_receipt(
        mine[0], status="suppressed", reason="cooldown", connection=None, judged_at=NOON + 9, why=mine[0].why
    )
    gateway.project(a_batch("commands.product", [*mine, other]), a_batch("receipts", [held]))
    seen = []
    params = {"rule": "T1", "subject": "user:ann", "limit": "3"}
    with gateway.client("read_only") as client:
        while True:
            page = client.get("/api/v1/activity", params=params).json()
            seen += page["items"]
            if page["next"] is None:
                break
            params["before"] = page["next"]
        span = {"rule": "T1", "from": NOON + 2, "to": NOON + 4}
        part = client.get("/api/v1/activity", params=span).json()["items"]
    assert [line["at"] for line in seen] == [NOON + 9, *(NOON + i for i in reversed(range(7)))]
    assert seen[0]["what"] == "suppressed" and seen[0]["reason"] == "cooldown"
    assert {line["tenant"] for line in seen} == {"acme"}
    assert [line["at"] for line in part] == [NOON + 3, NOON + 2]


def test_why_reads_the_tables_and_guards_people(gateway: Served) -> None:
    command = {"type": "product.thing.do", "title": "t", "text": "t"}
    with gateway.client("product_director") as client:
        for name, trigger in (
            ("why-low", {"kind": "stage", "stages": ["low"]}),
            ("why-market", {"kind": "stage", "stages": ["market"]}),
        ):
            made = client.put(
                f"/api/v1/definitions/rule/{name}", json={"id": name, "trigger": trigger, "command": command}
            )
            assert made.status_code == 200, made.text
    row = an_adoption_row("7d", NOON, product="whys", feature="slow", users=4, adoption_rate=0.1, stage="low")
    found = a_detection(product="whys", subject="feature:slow", feature="slow", stage="low", previous="growth")
    given = a_command(product="whys", rule="why-low", subject="feature:slow", cause=found.id, detection=found.id)
    gateway.project(
        a_batch("tables.adoption", [row]), a_batch("detections", [found]), a_batch("commands.product", [given])
    )
    with gateway.client("read_only") as client:
        asked = {"subject": "feature:slow", "product": "whys", "at": NOON + DAY}
        fired = client.get("/api/v1/why", params={"rule": "why-low", **asked}).json()
        assert fired["verdict"] == "fired" and fired["seen"]["cause"] == found.id
        assert [line["command"] for line in fired["activity"]] == [given.id]
        unmet = client.get("/api/v1/why", params={"rule": "why-market", **asked}).json()
        assert (unmet["verdict"], unmet["trigger"][0]) == (
            "not_met",
            {"text": 'stage in ["market"]', "value": "low", "held": False, "parts": []},
        )
        assert "adoption_rate > 0.6" in {c["text"] for c in unmet["trigger"]}
        refused = client.get("/api/v1/why", params={"rule": "why-low", "subject": "user:ann", "product": "whys"})
        assert refused.status_code == 403 and "members:read" in refused.json()["detail"]
        for wrong in ({"rule": "no-such", "subject": "feature:slow"}, {"rule": "why-low", "subject": "slow"}):
            problem = client.get("/api/v1/why", params=wrong)
            assert problem.status_code == 422 and problem.json()["type"].endswith("cannot-tell")
    with gateway.client("read_only", "other") as client:
        assert client.get("/api/v1/why", params={"rule": "why-low", **asked}).status_code == 422


def test_insight_counts_runs_and_actions(gateway: Served) -> None:
    begin, later = NOON + 400 * DAY, NOON + 401 * DAY
    seen = Note(begin + 1, "a", "delivered", {"command": "c"})  # of a run that waited for it: counted by its receipt
    done = [Note(begin, "", "began"), seen, Note(begin + 1, "", "ended", {"status": "completed"})]
    failed = [Note(begin, "", "began"), Note(begin + 2, "", "ended", {"status": "failed"})]
    goal = [Note(begin, "", "began"), Note(begin + 3, "", "ended", {"status": "goal"})]
    command = a_command(product="insight", cause="i1", issued_at=begin)
    receipts = [
        a_receipt(command, at=begin),
        a_receipt(command, at=begin, attempt=2, status="rejected", delivery="d2"),
        a_receipt(command, at=begin, attempt=3, status="delivered", delivery="d3"),
        a_receipt(command, at=begin, attempt=4, status="delivered", delivery="d4"),
    ]
    gateway.project(
        a_batch("runs", [a_record("i-1", *done), a_record("i-2", *failed), a_record("i-3", *goal)]),
        a_batch("commands.product", [command]),
        a_batch("receipts", receipts),
    )
    with gateway.client("read_only") as client:
        told = client.get("/api/v1/insight", params={"since": begin, "until": later}).json()
        nothing = client.get("/api/v1/insight", params={"since": later}).json()
    assert told["runs_began"] == 3 and told["runs_ended"] == {"completed": 1, "failed": 1, "goal": 1}
    assert told["completion_rate"] == pytest.approx(2 / 3)
    assert (told["commanded"], told["delivered"], told["rejected"]) == (1, 3, 1)
    assert told["action_success_rate"] == pytest.approx(0.75)
    assert told["workflows_active"] == 1
    assert nothing["completion_rate"] is None and nothing["action_success_rate"] is None
    with gateway.client("read_only", "other") as client:
        assert client.get("/api/v1/insight", params={"since": begin, "until": later}).json()["runs_began"] == 0
