"""The guide for rule authors: its blocks are files; they are planned, tested, and run live (backtested: test_guide_backtest)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.acting_out import act_out, played
from app.settings import Settings
from app.simulate.beside import planted
from app.simulate.coverage import plan
from app.trial import trial
from app.trying import try_all
from core.rulebook import examples, load_rulebook, read_rulebook, trips

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guide.md").read_text()
FILES = {f"guide-{i}.yaml": text for i, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S))}


def test_every_block_is_a_file_that_plans_without_a_warning() -> None:
    entries, found = read_rulebook(FILES)
    assert [str(f) for f in found] == []
    assert {e.definition.name for e in entries} >= {"guide.abandoned-cart", "guide.re-engagement"}


def test_the_tests_beside_them_pass_and_each_has_one_in_which_less_happens() -> None:
    tried = list(try_all(FILES))
    assert [t for t in tried if t.failure is not None] == []
    assert len(tried) >= 9
    for trip_of in {t.workflow.name for t in trips(FILES)}:
        assert len([t for t in trips(FILES) if t.workflow.name == trip_of]) >= 3


def test_what_the_guide_says_to_try_fails_as_it_says() -> None:
    changed = {n: t.replace("max_turns: 2", "max_turns: 1") for n, t in FILES.items()}
    failures = [t.failure for t in try_all(changed) if t.failure is not None]
    assert any("expected commands: marketing.email.send" in f and "what the run did" in f for f in failures)
    misspelt = {"cart.yaml": FILES["guide-0.yaml"].replace('type == "cart.created"', 'typ == "cart.created"')}
    assert any("typ" in str(f) for f in read_rulebook(misspelt)[1])


@pytest.mark.kafka
@pytest.mark.timeout(200)
async def test_they_run_live(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2)
    tests = list(planted(examples(FILES), trips(FILES)))
    assert len(tests) == 9
    roles = {"meter": 1, "decide": 1, "orchestrate": 1}
    async with trial(settings, plan(), roles=roles, definitions=load_rulebook(FILES)) as made:  # type: ignore[arg-type]
        made.start()
        await act_out(made, tests, within_s=100)
        await made.settled(100)
        found = played(tests, await made.commands())
    assert [text for p in found for text in p.differences] == []
    assert sum(len(p.commands) for p in found) == sum(len(t.wanted) for t in tests) >= 9
