"""Every automation of A and B fires from raw events and arrives, signed; the same world without the cause stays silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.verify import read_rulebook
from app.coverage import IDS, cover
from app.settings import Settings

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(280)
async def test_all_32_automations(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2)
    report = await cover(settings, read_rulebook(ROOT / "rulebook"), within_s=240)
    lines = "\n".join([row.line() for row in report.rows] + report.differences)
    assert [row.id for row in report.rows] == list(IDS)
    assert report.complete, lines
    assert report.repeated == 0 and report.refused == 0
    assert len({row.command_type for row in report.rows}) == len(IDS)


def test_no_rule_names_a_catalogue_id_in_its_trigger() -> None:
    for definition in read_rulebook(ROOT / "rulebook"):
        if definition.kind == "rule":
            asked = definition.trigger.model_dump_json() + (
                definition.condition.model_dump_json() if definition.condition else ""
            )
            assert not any(ident in asked for ident in IDS), definition.id
