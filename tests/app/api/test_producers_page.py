"""docs/producers.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from app.api.access import MATRIX, PERMISSIONS, Permission, Role
from core.meter import hot
from core.meter.decode import decode
from schemas.delivery import DEAD_LETTER_HEADERS
from schemas.topics import TOPICS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "producers.md").read_text()
COLUMNS: list[Role] = ["read_only", "quality", "development", "product_manager", "product_director", "operations"]
ROWS: dict[str, tuple[Permission, ...]] = {
    "read tables": ("tables:read", "records:read", "definitions:read", "status:read"),
    "read dead letters": ("dead_letters:read",),
    "send dead letters again": ("dead_letters:redrive",),
    "read members": ("members:read",),
    "send events": ("events:write",),
    "write products": ("product:write", "segment:write", "rule:write"),
    "write thresholds": ("threshold:write",),
    "pause": ("pause:write",),
    "start automations": ("triggers:write",),
    "cancel, pause, resume and move runs": ("runs:write",),
    "approve definitions": ("approvals:write",),
    "write connections": ("connection:write", "silence:write", "keys:write"),
    "forget people": ("subjects:forget",),
    "write sources": ("source:write",),
    "make hooks": ("hook:write",),
}


def test_the_table_of_roles_is_the_matrix() -> None:
    assert {p for row in ROWS.values() for p in row} == set(PERMISSIONS)
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    for start, permissions in ROWS.items():
        (line,) = [x for x in lines if x.startswith(f"| {start}")]
        marks = [cell.strip() == "✓" for cell in line.strip("|").split("|")[1:]]
        for permission in permissions:
            assert marks == [permission in MATRIX[role] for role in COLUMNS], permission


def test_the_examples_are_events_that_meter_reads() -> None:
    examples = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 2
    for example, reader in zip(examples, (hot.USAGE, hot.PERFORMANCE), strict=True):
        assert decode([example.encode()], {}, reader).bad == {}


def test_topics_headers_and_reasons_are_named() -> None:
    for topic in TOPICS:
        if topic.name.startswith("events."):
            assert f".{topic.name.removeprefix('events.')}" in PAGE
    assert all(f"`{header}`" in PAGE for header in DEAD_LETTER_HEADERS)
    semantics = (Path(__file__).resolve().parents[3] / "docs" / "semantics.md").read_text()
    listed = semantics.split("## 1. Rows")[1].split("A dead row touches")[0]
    reasons = set(re.findall(r"`([a-z_]+)`", listed)) - {"occurred_at", "events.usage"}
    assert len(reasons) >= 9
    assert all(f"`{reason}`" in PAGE for reason in reasons)
