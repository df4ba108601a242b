"""Every declared metric exists from the start, with its labels; probes tell how a process stands."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from app.probes import Health, Probes, announced, targets
from app.telemetry import Telemetry
from core.metrics import METRICS


def test_every_declared_metric_takes_its_labels() -> None:
    telemetry = Telemetry(process=False)
    for name, metric in METRICS.items():
        labels = [f"v{i}" for i in range(len(metric.labels))]
        (telemetry.count if metric.kind == "counter" else telemetry.observe)(name, 2, labels)
    text = telemetry.text().decode()
    for name in METRICS:
        assert f"\n{name}" in text
    telemetry.count("uptake_rows_total", 3, ("events.usage", "accepted"))
    telemetry.count("uptake_rows_total", 4, ["events.usage", "accepted"])
    assert 'uptake_rows_total{outcome="accepted",topic="events.usage"} 7.0' in telemetry.text().decode()
    with pytest.raises(KeyError):
        telemetry.count("uptake_nothing_total")


def test_probes_answer_as_the_process_stands(tmp_path: Path) -> None:
    now = Health(started=True, ready=False, live=True, detail={"why": "recovering"})
    telemetry = Telemetry()
    telemetry.count("uptake_rows_total", 1, ("events.usage", "accepted"))
    telemetry.observe("uptake_checkpoint_seconds", 0.1, ("meter",))
    probes = Probes(telemetry, lambda: now, "127.0.0.1", 0)
    probes.start()
    base = f"http://127.0.0.1:{probes.port}"
    try:
        with announced(tmp_path, "meter-0", "meter", base.removeprefix("http://")) as file:
            assert targets(tmp_path) == {"meter-0": ("meter", base.removeprefix("http://"))}
            assert file.read_text().startswith('[{"targets": ["127.0.0.1:')
            assert httpx.get(f"{base}/livez").status_code == 200
            assert httpx.get(f"{base}/startedz").status_code == 200
            ready = httpx.get(f"{base}/readyz")
            assert ready.status_code == 503 and ready.json()["why"] == "recovering"
            assert "python_info" in httpx.get(f"{base}/metrics").text
            asked = ["uptake_rows_total", "uptake_checkpoint_seconds_count"]
            some = httpx.get(f"{base}/metrics", params={"name[]": asked}).text.splitlines()
            assert {line.split("{")[0] for line in some if not line.startswith("#")} == set(asked)
            assert httpx.get(f"{base}/metrics", params={"name[]": "nobody_has_it"}).text == ""
            assert httpx.get(f"{base}/other").status_code == 404
        assert targets(tmp_path) == {}
    finally:
        probes.stop()
