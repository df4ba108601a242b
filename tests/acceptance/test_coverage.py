"""Every shipped automation fires from raw events and arrives, signed; the same world without the cause stays silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.verify import rulebook_texts
from app.coverage import AB, cover
from app.settings import Settings
from app.simulate import realtime

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(290)
async def test_every_shipped_row(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2)
    report = await cover(settings, rulebook_texts(ROOT / "rulebook"), within_s=240)
    lines = "\n".join([row.line() for row in report.rows if not row.good] + report.differences)
    ids = [row.id for row in report.rows]
    assert set(AB) | set(realtime.ROWS) <= set(ids) and len(set(ids)) == len(ids)
    assert report.complete and not report.differences, lines
    assert report.repeated == 0 and report.refused == 0
