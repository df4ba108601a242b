"""Every shipped automation fires from raw events and arrives, signed; the same world without the cause stays silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.verify import rulebook_texts
from app.coverage import AB, cover
from app.coverage_report import Report
from app.settings import Settings
from app.simulate import realtime

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).resolve().parents[2]


SLICE = ("A/", "B/", "D/", "examples/thresholds", "J/J4-J6")
"""In every run: what is judged by the oracle, what happens in real time, and three journeys. The rest takes minutes."""


@pytest.mark.timeout(290)
async def test_some_rows(kafka: str, prefix: str, tmp_path: Path) -> None:
    texts = {name: text for name, text in rulebook_texts(ROOT / "rulebook").items() if any(s in name for s in SLICE)}
    await _all_good(Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2), texts, within_s=240)


@pytest.mark.long
@pytest.mark.timeout(1_200)
async def test_every_shipped_row(kafka: str, prefix: str, tmp_path: Path) -> None:
    texts = rulebook_texts(ROOT / "rulebook")
    report = await _all_good(
        Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2), texts, within_s=600
    )
    assert not [ident for ident in report.not_yet_there if ident[0] in "ABEHIJP" or ident.startswith("D1.")]


async def _all_good(settings: Settings, texts: dict[str, str], within_s: float) -> Report:
    report = await cover(settings, texts, within_s=within_s)
    lines = "\n".join([row.line() for row in report.rows if not row.good] + report.differences)
    ids = [row.id for row in report.rows]
    assert set(AB) | set(realtime.ROWS) <= set(ids) and len(set(ids)) == len(ids)
    assert report.complete and not report.differences, lines
    assert report.repeated == 0 and report.refused == 0
    return report
