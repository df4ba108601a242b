"""A real Prometheus scrapes the running system: every dashboard query returns data, every alert rule evaluates."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.boards import DASHBOARDS
from tests.helpers.kafka import delete_topics, free_port, fresh_prefix

ROOT = Path(__file__).parents[2]
RULES = ROOT / "compose" / "prometheus" / "rules" / "uptake.yaml"
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(420)]


@dataclass(frozen=True, slots=True)
class Running:
    """A system with its Prometheus."""

    prometheus: str
    roles: frozenset[str]

    def ask(self, path: str, **query: str) -> Any:
        """`data` of an answer of Prometheus' API."""
        url = f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Waits for a condition."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.5)


@contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **environment}, cwd=log.parent
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def running(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`uptake up` with simulated load, some bad rows among it, and Prometheus beside it."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    home = tmp_path_factory.mktemp("observed")
    prefix = fresh_prefix("observed")
    data, api, port = home / "data", free_port(), free_port()
    environment = {
        "UPTAKE_KAFKA": kafka,
        "UPTAKE_TOPIC_PREFIX": prefix,
        "UPTAKE_DATA_DIR": str(data),
        "UPTAKE_PARTITIONS": "2",
        "UPTAKE_API_PORT": str(api),
    }
    scrape: list[dict[str, Any]] = [
        {
            "job_name": "uptake",
            "file_sd_configs": [{"files": [f"{data}/run/targets/*.json"], "refresh_interval": "1s"}],
        },
        {"job_name": "uptake-gateway", "static_configs": [{"targets": [f"127.0.0.1:{api}"]}]},
    ]
    interval = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = home / "prometheus.yaml"
    config.write_text(yaml.safe_dump({"global": interval, "rule_files": [str(RULES)], "scrape_configs": scrape}))
    uptake = str(Path(sys.executable).parent / "uptake")
    bad = home / "bad.jsonl"
    bad.write_text('{"id": "bad", "tenant": "demo", "type": "feature.used"}\n' * 20)
    watching = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={home / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    try:
        with (
            _process([uptake, "up", "--rate", "300"], home / "up.log", environment) as up,
            _process(watching, home / "prometheus.log", {}) as prometheus,
        ):
            system = Running(f"http://127.0.0.1:{port}", frozenset({"meter", "decide", "deliver", "project"}))

            def scraped() -> bool:
                assert up.poll() is None, (home / "up.log").read_text()[-3000:]
                assert prometheus.poll() is None, (home / "prometheus.log").read_text()[-3000:]
                try:
                    found = system.ask("query", query='count by (role) (up{job="uptake"} == 1)')["result"]
                except (urllib.error.URLError, ConnectionError):
                    return False
                return {r["metric"]["role"] for r in found} == system.roles

            system.until("all roles are scraped", scraped, 120)
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


def test_every_dashboard_query_returns_data(running: Running) -> None:
    queries = {q.replace("$tenant", ".*").replace("$product", ".*") for d in DASHBOARDS for q in d.queries()}
    empty = set(queries)

    def all_answer() -> bool:
        for query in sorted(empty):
            if running.ask("query", query=query)["result"]:
                empty.discard(query)
        return not empty

    try:
        running.until("every dashboard query returns data", all_answer, 240)
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

    running.until(
        "all rules are evaluated", lambda: all(r["health"] != "unknown" for g in groups() for r in g["rules"]), 60
    )
    rules = [rule for group in groups() for rule in group["rules"]]
    assert len(rules) >= 10
    assert {r["name"]: r.get("lastError") for r in rules if r["health"] != "ok"} == {}
    assert [r["name"] for r in rules if r["state"] == "firing" and r["labels"]["severity"] == "page"] == []
