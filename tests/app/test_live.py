"""The terminal view draws what is known, and lines say the same."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from app.kafka import Record
from app.live import describe, picture, summary
from app.watch import Watch, Worker
from tests.helpers.settings import settings_for

HOUR = 3_600_000


def adoption(window_ms: int, end: int, stage: str, rate: float | None) -> dict[str, Any]:
    return {
        "tenant": "acme",
        "product": "studio",
        "feature": "board",
        "window_start": end - window_ms,
        "window_end": end,
        "users": 30,
        "adoption_rate": rate,
        "stage": stage,
        "viral": False,
    }


def taken(topic: str, value: Any) -> Record:
    return Record(topic, 0, 0, 0, None, json.dumps(value).encode(), ())


def test_a_frame_is_drawn_before_there_is_anything(tmp_path: Path) -> None:
    out = io.StringIO()
    empty = Watch(settings_for("127.0.0.1:1", "", tmp_path))
    Console(file=out, width=100, force_terminal=True).print(picture(empty, "http://here"))
    assert out.getvalue().count("none yet") == 5


def test_a_frame_shows_stages_bands_commands_and_deliveries(tmp_path: Path) -> None:
    watch = Watch(settings_for("127.0.0.1:1", "", tmp_path))
    command = {
        "rule": "A1.1",
        "type": "marketing.a.b",
        "tenant": "acme",
        "subject": "feature:board",
        "title": "Teach it",
    }
    health = {"tenant": "acme", "product": "studio", "at": 5, "score": 35.0, "band": "critical", "components": {}}
    detection = {
        "kind": "stage_entered",
        "tenant": "acme",
        "subject": "feature:board",
        "stage": "low",
        "previous": "no_data",
    }
    for topic, value in (
        ("tables.adoption", adoption(HOUR, 10 * HOUR, "low", 0.1)),
        ("tables.adoption", adoption(HOUR // 12, 10 * HOUR, "growth", 0.3)),
        ("tables.adoption", adoption(HOUR, 11 * HOUR, "market", 0.9)),
        ("tables.health", health),
        ("detections", detection),
        ("commands.marketing", command),
        ("sink", {"connection": "hook", "command": command}),
        ("receipts", {"status": "delivered"}),
        ("sink", None),
    ):
        watch._take(taken(topic, value))
    watch.workers = [
        Worker(
            "meter-0", "meter", "", True, {}, {"uptake_rows_total": 1234, "uptake_lag_rows": 5}, {"events.usage/0": 1.0}
        )
    ]
    out = io.StringIO()
    Console(file=out, width=150, height=40, force_terminal=False).print(picture(watch, "http://here", 40))
    text = out.getvalue()
    for part in (
        "1,234 rows",
        "lag 5",
        "30 %",
        "growth",
        "critical",
        "A1.1 marketing.a.b",
        "hook ← marketing.a.b",
        "1/1 workers",
    ):
        assert part in text, part
    assert "market " not in text
    assert summary(watch) in " ".join(text.split()) or "1 delivered" in summary(watch)
    assert describe("detections", detection) == "acme feature:board → low from no_data"
