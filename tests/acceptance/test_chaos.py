"""A slice of `make chaos`: one broker, two processes each of METER and DECIDE, some of every sort of fault, no difference."""

from __future__ import annotations

from pathlib import Path

import pytest

import app.chaos.kinds  # noqa: F401
from app.chaos.registry import KINDS
from app.chaos.report import lines
from app.chaos.run import Options, run
from app.settings import Settings
from app.simulate.plan import standard
from core.rulebook import load_rulebook

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).resolve().parents[2]
CHOSEN = ("kill", "zombie", "term", "aborts", "duplicates", "disorder", "skew", "errors", "resets", "disk_full")


@pytest.mark.timeout(290)
async def test_whatever_breaks_tables_commands_and_accounts_are_right(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2)
    rules = load_rulebook({str(path): path.read_text() for path in sorted((ROOT / "rulebook").rglob("*.y*ml"))})
    rate, seconds = 1_000.0, 60.0
    outcome = await run(
        settings,
        rules,
        Options(
            plan=standard(seed=3, events=int(rate * seconds), users=800, features=5, days=2.0, products=("studio",)),
            rate=rate,
            roles={"meter": 2, "decide": 2, "deliver": 1, "project": 1},
            seconds=seconds,
            kinds=[KINDS[name] for name in CHOSEN],
            calm_s=1.5,
            within_s=150.0,
        ),
    )
    report = "\n".join([*lines(outcome), *(fault.line() for fault in outcome.timeline.faults)])
    assert outcome.good, report
    compared = {d.what: d.compared for d in outcome.verdict.differences}
    assert compared["adoption rows"] > 1_000 and compared["commands"] > 20 and compared["health rows"] > 40, report
    assert compared["deliveries"] > 40 and compared["rows of the read model"] > 1_000, report
    happened = [fault.kind for fault in outcome.timeline.faults if not fault.skipped]
    assert {"kill", "zombie"} <= set(happened) and len(happened) >= 6, report
    assert outcome.timeline.of(killed=True), report
