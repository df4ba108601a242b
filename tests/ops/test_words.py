"""Dashboards, alerts, their tests and runbooks speak of the metrics that the code exports, and of nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.metrics import METRICS
from grafana.boards import DASHBOARDS
from grafana.generate import texts

ROOT = Path(__file__).parents[2]
RULES = ROOT / "compose" / "prometheus" / "rules"
OTHERS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
"""Prometheus' own and prometheus-client's."""


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "uptake.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


EXPRESSIONS = [q for d in DASHBOARDS for q in d.queries()] + [a["expr"] for a in _alerts()]


def _exported() -> set[str]:
    names = set(OTHERS)
    for name, metric in METRICS.items():
        names |= {name} if metric.kind != "histogram" else {f"{name}{end}" for end in ("_bucket", "_sum", "_count")}
    return names


def test_there_is_something_to_check() -> None:
    assert len(DASHBOARDS) >= 2
    assert len(_alerts()) >= 10
    assert len(EXPRESSIONS) >= 50


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_queries_name_metrics_and_labels_that_exist(expression: str) -> None:
    names = set(re.findall(r"\b(?:uptake|process)_[a-z0-9_]+|\bup\b", expression))
    assert names, "a query about nothing"
    assert names <= _exported()
    # Labels that every sample has, then those of the metrics named.
    labels = {"le", "job", "instance", "role", "worker"}
    for name in names:
        declared = METRICS.get(name) or METRICS.get(re.sub(r"_(bucket|sum|count)$", "", name))
        labels |= set(declared.labels) if declared else set()
    used = set(re.findall(r"[{,]\s*([a-z]+)\s*(?:=~|!~|!=|=)", expression))
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        used |= {label.strip() for label in group.split(",") if label.strip()}
    assert used <= labels


def test_the_committed_dashboards_are_the_generated_ones() -> None:
    wanted = texts()
    assert {p: p.read_text(encoding="utf-8") for p in (ROOT / "grafana" / "dashboards").glob("*.json")} == wanted


def test_dashboards_are_well_formed() -> None:
    source = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    uids = set()
    for text in texts().values():
        board = json.loads(text)
        uids.add(board["uid"])
        ids = [p["id"] for p in board["panels"]]
        assert len(ids) == len(set(ids))
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{panel['title']} lies on another panel"
            taken |= cells
            if panel["type"] != "row":
                assert panel["description"]
                assert panel["datasource"]["uid"] == source["uid"]
    assert len(uids) == len(DASHBOARDS)


def test_every_metric_of_operation_is_shown_or_alerted_on() -> None:
    """A new metric is put on a dashboard, or named here with the reason."""
    sizes = "how much the archive takes in and writes: of use where a disk is planned"
    elsewhere = {
        "uptake_signals_total": "of use to people who write rules, in the gateway",
        "uptake_archive_rows_total": sizes,
        "uptake_archive_files_total": sizes,
        "uptake_archive_bytes_total": sizes,
    }
    shown = " ".join(EXPRESSIONS)
    missing = {name for name in METRICS if name not in shown} - elsewhere.keys()
    assert not missing


def _minutes(time: str) -> float:
    return float(time.removesuffix("m")) if time.endswith("m") else float(time.removesuffix("s")) / 60


def test_every_alert_fires_in_a_test_and_clears_again() -> None:
    seen: dict[str, list[tuple[float, bool]]] = {}
    for case in yaml.safe_load((RULES / "uptake.test.yaml").read_text())["tests"]:
        for check in case["alert_rule_test"]:
            looked = (_minutes(str(check["eval_time"])), bool(check["exp_alerts"]))
            seen.setdefault(check["alertname"], []).append(looked)
    names = [a["alert"] for a in _alerts()]
    assert len(names) == len(set(names))
    for name in names:
        fired = [at for at, fires in seen.get(name, ()) if fires]
        assert fired, f"{name} needs a case that fires"
        assert any(at > min(fired) and not fires for at, fires in seen[name]), f"{name} needs a case that clears"
    assert seen.keys() == set(names)


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = {page.stem: page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    operators = (ROOT / "docs" / "operators.md").read_text()
    assert pages.keys() == {a["alert"] for a in _alerts()}
    for alert in _alerts():
        name, severity = alert["alert"], alert["labels"]["severity"]
        assert severity in {"page", "ticket"}
        assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        assert pages[name].startswith(f"# {name}\n\nSeverity: {severity}.\n")
        parts = re.split(r"^## (.*)$", pages[name], flags=re.M)
        assert parts[1::2] == ["Meaning", "Look here", "Do this", "How it clears"]
        assert all(text.strip() for text in parts[2::2])
        assert f"| [{name}](runbooks/{name}.md) | {severity} |" in operators
