"""A real Prometheus beside a system under test, and the alert rules with their times shortened."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
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

from tests.helpers.kafka import ROOT, free_port

RULES = ROOT / "compose" / "prometheus" / "rules" / "uptake.yaml"
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    address: str

    def ask(self, path: str, **query: str) -> Any:
        """`data` of an answer of its API."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def answers(self) -> bool:
        """Whether it does."""
        try:
            self.ask("rules")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Alert → labels of each that fires."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found


def until(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


@contextmanager
def process(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of the block."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **environment}, cwd=log.parent
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(60)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(10)


@contextmanager
def watching(home: Path, rules: Path, scrape: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Prometheus with these rules and targets, looking every second; skips the test where it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    interval = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = home / "prometheus.yaml"
    config.write_text(yaml.safe_dump({"global": interval, "rule_files": [str(rules)], "scrape_configs": scrape}))
    port = free_port()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={home / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(command, home / "prometheus.log", {}) as started:
        found = Prometheus(f"http://127.0.0.1:{port}")

        def answers() -> bool:
            assert started.poll() is None, (home / "prometheus.log").read_text()[-3000:]
            return found.answers()

        until("Prometheus answers", answers, 60)
        yield found


def workers_of(data: Path) -> dict[str, Any]:
    """Scrape configuration of the processes that announce themselves in a data directory."""
    return {
        "job_name": "uptake",
        "file_sd_configs": [{"files": [f"{data}/run/targets/*.json"], "refresh_interval": "1s"}],
    }


def hurried(text: str, by: int) -> str:
    """The alert rules, every time in them divided by `by`, and the thresholds that grow with time (seconds, rows) too."""
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _shorter(rule["for"], by)
            ranges = re.sub(r"\b\d+[smhd]\b", lambda m: _shorter(m[0], by), rule["expr"])
            rule["expr"] = re.sub(r"> (30|60|300|10000)\b", lambda m: f"> {int(m[1]) / by:g}", ranges)
    return yaml.safe_dump(rules)


def _shorter(duration: str, by: int) -> str:
    return f"{max(1_000, int(duration[:-1]) * SECONDS[duration[-1]] * 1_000 // by)}ms"
