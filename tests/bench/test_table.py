"""The page of figures is what the kept results say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import table

ON = {
    "machine": {
        "cpu": "a processor", "cores": 2, "memory_gb": 8.0, "system": "Linux 6", "python": "3.11", "kafka": "4.1.1",
        "packages": {"numpy": "2"}, "commit": "abc", "load_before": 0.1, "at": "2026-01-01T00:00:00+00:00",
    },
    "quick": False,
}  # fmt: skip


def _measured(events_s: int, cpu: float) -> dict[str, float]:
    return {"rows": 1000, "events_s": events_s, "cpu_s_per_million": cpu, "peak_mb": 100, "keys_checked": 9}


def test_results_become_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"meter": [_measured(400_000, 2.0)], "faust": [_measured(1_500, 600.0)]}
    throughput = {
        "runs": runs,
        "median": {name: rows[0] for name, rows in runs.items()},
        "cpu_ratio_to_meter": {"faust": 300.0},
        "titles": {"faust": "Faust"},
    }
    latency = {
        "rates": [
            {
                "rate": 50_000,
                "partitions": 4,
                "commands": 40,
                "p50_ms": 9,
                "p90_ms": 12,
                "p99_ms": 20,
                "max_ms": 31,
                "cores_used": 0.7,
            }
        ]
    }
    for name, result in {"throughput": throughput, "latency": latency}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(ON | result))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    text = table.text()
    assert "| **METER**, one worker process, nothing switched off | 400,000 | 2.00 | 100 |  | 1,000 | 9 |" in text
    assert "| Faust | 1,500 | 600 | 100 | 300 × | 1,000 | 9 |" in text
    assert "| 50,000 | 4 | 40 | 9 | 12 | 20 | 31 | 0.7 |" in text
    assert "a processor, 2 cores" in text


def test_only_the_part_between_the_markers_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    before = f"# Page\n\n{table.BEGIN}old\n{table.END}\nafter\n"
    written = table.page(before)
    assert written.startswith("# Page\n") and written.endswith("after\n")
    assert "old" not in written
    assert table.page(written) == written


def test_the_committed_page_is_up_to_date() -> None:
    assert table.main(["--check"]) == 0
