"""A slice of `make verify`: real Kafka, real worker processes, one `kill -9` of each role, and not one difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings
from app.simulate.plan import standard
from app.verify import verify
from schemas.definitions import CommandTemplate, Compare, OnBand, OnStage, OnViral, Rule

pytestmark = pytest.mark.kafka


def rule(name: str, trigger: OnStage | OnViral | OnBand, command: str, **more: object) -> Rule:
    template = CommandTemplate(type=command, title="{{ subject }}", text="{{ reason }}", payload={"n": "{{ numbers }}"})
    return Rule.model_validate(
        {"name": name, "id": name, "trigger": trigger, "command": template, "ceiling_per_hour": 10, **more}
    )


RULES = [
    rule("low", OnStage(stages=["low"]), "product.tutorial.deploy"),
    rule("high", OnStage(stages=["growth", "market"]), "marketing.feature.promote", cooldown_s=172_800),
    rule("viral", OnViral(), "executive.market.expand", condition=Compare(field="users", op=">=", value=30)),
    rule("bad", OnBand(bands=["critical", "declining"]), "engineering.feature.rollback", priority="urgent"),
    rule("good", OnBand(bands=["stable", "optimal"]), "sales.story.write"),
]


@pytest.mark.timeout(240)
async def test_tables_commands_and_dead_letters_equal_the_fold(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=2)
    plan = standard(events=60_000, users=1_000, features=8, days=2.5, seed=7)
    verdict = await verify(settings, plan, RULES, kills=2, minutes=60, within_s=200)
    report = "\n".join(verdict.lines())
    assert verdict.equal, report
    compared = {d.what: d.compared for d in verdict.differences}
    assert compared["adoption rows"] > 5_000 and compared["health rows"] > 200 and compared["commands"] > 20, report
    assert len(verdict.kills) == 2 and verdict.outcomes["duplicate"] > 1_000, report
