"""Everything is lost and comes back: nothing is missing, nothing came twice, and every figure is the fold of the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.backup.drill import drill
from app.settings import Settings
from app.simulate.plan import standard
from tests.acceptance.test_verify import RULES

pytestmark = pytest.mark.kafka


@pytest.mark.timeout(280)
async def test_a_system_in_full_work_is_destroyed_and_brought_back(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2)
    plan = standard(events=60_000, users=1_000, features=8, days=2.5, seed=7)
    report = await drill(settings, plan, RULES, minutes=30, within_s=120)
    text = "\n".join(report.lines())
    print(text)
    assert report.equal, text
    compared = {d.what: d.compared for d in report.differences}
    assert compared["adoption rows"] > 3_000 and compared["commands"] > 20 and compared["arrivals"] > 20, text
    full, incremental = (made.manifest for made in report.backups)
    assert full.parent is None and incremental.parent == full.id
    assert report.peak_mb > 50, text
    assert {name.partition("-")[0] for name in report.workers} == {"meter", "decide", "deliver", "project"}, text
    assert all(mb > 30 for mb in report.workers.values()), text
    assert report.sent_before > 0 and report.lost_rows > 10_000, text
