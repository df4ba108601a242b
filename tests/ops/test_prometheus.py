"""A real Prometheus scrapes the running system: every dashboard query returns data, every alert rule evaluates."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grafana.boards import DASHBOARDS
from tests.helpers.kafka import delete_topics, free_port, fresh_prefix
from tests.helpers.prometheus import RULES, Prometheus, process, until, watching, workers_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(420)]


@dataclass(frozen=True, slots=True)
class Running:
    """A system with its Prometheus."""

    prometheus: Prometheus
    roles: frozenset[str]

    def ask(self, path: str, **query: str) -> Any:
        """What Prometheus says."""
        return self.prometheus.ask(path, **query)


@pytest.fixture(scope="module")
def running(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`uptake up` with simulated load, some bad rows among it, and Prometheus beside it."""
    home = tmp_path_factory.mktemp("observed")
    prefix = fresh_prefix("observed")
    data, api = home / "data", free_port()
    environment = {
        "UPTAKE_KAFKA": kafka,
        "UPTAKE_TOPIC_PREFIX": prefix,
        "UPTAKE_DATA_DIR": str(data),
        "UPTAKE_PARTITIONS": "2",
        "UPTAKE_API_PORT": str(api),
    }
    scrape = [workers_of(data), {"job_name": "uptake-gateway", "static_configs": [{"targets": [f"127.0.0.1:{api}"]}]}]
    uptake = str(Path(sys.executable).parent / "uptake")
    bad = home / "bad.jsonl"
    bad.write_text('{"id": "bad", "tenant": "demo", "type": "feature.used"}\n' * 20)
    try:
        with (
            process([uptake, "up", "--rate", "300"], home / "up.log", environment) as up,
            watching(home, RULES, scrape) as prometheus,
        ):
            system = Running(prometheus, frozenset({"meter", "decide", "deliver", "project", "orchestrate", "archive"}))

            def scraped() -> bool:
                assert up.poll() is None, (home / "up.log").read_text()[-3000:]
                found = system.ask("query", query='count by (role) (up{job="uptake"} == 1)')["result"]
                return {r["metric"]["role"] for r in found} == system.roles

            until("all roles are scraped", scraped, 120)
            _produce_raw(kafka, f"{prefix}events.usage", bad.read_bytes().splitlines())
            yield system
    finally:
        delete_topics(kafka, prefix)


def _produce_raw(kafka: str, topic: str, rows: list[bytes]) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    for row in rows:
        producer.produce(topic, row, b"demo|nobody")
    assert producer.flush(30) == 0


TAKES_DAYS = (
    "uptake_prediction_calibration_error{",
    "uptake_prediction_auc{",
    'sum(uptake_runs_ended_total{status=~"completed|goal"})',
    "uptake_outcome_uplift{",
)
"""Figures that are there only after days of event time: predictions whose horizon passed, runs that ended, exposures that counted."""


def test_every_dashboard_query_returns_data(running: Running) -> None:
    queries = {q.replace("$tenant", ".*").replace("$product", ".*") for d in DASHBOARDS for q in d.queries()}
    queries = {q for q in queries if not any(name in q for name in TAKES_DAYS)}
    empty = set(queries)

    def all_answer() -> bool:
        for query in sorted(empty):
            if running.ask("query", query=query)["result"]:
                empty.discard(query)
        return not empty

    try:
        until("every dashboard query returns data", all_answer, 240)
    except AssertionError:
        pytest.fail("no data for:\n" + "\n".join(sorted(empty)))
    for dashboard in DASHBOARDS:
        for _, definition in dashboard.variables:
            selector, label = definition.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            values = running.ask(f"label/{label}/values", **{"match[]": selector.replace("$tenant", ".*")})
            assert values, f"no choice for {definition}"


def test_every_alert_rule_evaluates_and_none_that_pages_fires(running: Running) -> None:
    def groups() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = running.ask("rules")["groups"]
        return found

    until("all rules are evaluated", lambda: all(r["health"] != "unknown" for g in groups() for r in g["rules"]), 60)
    rules = [rule for group in groups() for rule in group["rules"]]
    assert len(rules) >= 10
    assert {r["name"]: r.get("lastError") for r in rules if r["health"] != "ok"} == {}
    assert [r["name"] for r in rules if r["state"] == "firing" and r["labels"]["severity"] == "page"] == []
