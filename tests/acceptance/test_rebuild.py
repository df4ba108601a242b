"""A rebuild on real Kafka: beside the running version, while rows come; what is taken into force equals the fold, and no command
of the past is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app import compare
from app.cli.workers import require_topics
from app.definitions import publish
from app.kafka import MissingTopic
from app.rebuild import CannotRebuild, Rebuilt, beside, drop_old, rebuild
from app.settings import Role, Settings
from app.simulate.encode import Encoded, Encoder
from app.simulate.order import chunks
from app.simulate.plan import standard
from app.topics import create, existing
from app.trial import Trial, trial
from app.verify import ends_of, judged
from app.worker import Supervisor, worker_children
from schemas.definitions import OnStage
from tests.acceptance.test_verify import RULES, rule
from tests.helpers.settings import settings_for

pytestmark = pytest.mark.kafka
ONE_EACH: dict[Role, int] = {"meter": 1, "decide": 1}
PLAN = standard(events=30_000, users=600, features=6, days=2.0, seed=11)
LATER = rule("later", OnStage(stages=["low", "growth"]), "product.tutorial.deploy")


@asynccontextmanager
async def version(made: Trial, settings: Settings) -> AsyncIterator[Trial]:
    """The same trial with workers of these settings."""
    supervisor = Supervisor(worker_children(settings, ONE_EACH), told=lambda who, text: None)
    supervisor.start()
    try:
        yield Trial(settings, supervisor, made.plan)
    finally:
        await supervisor.stop()


async def given(made: Trial) -> list[str]:
    return [command["id"] for command in await made.commands()]


@pytest.mark.timeout(240)
async def test_a_rebuilt_version_equals_the_fold_and_says_nothing_of_the_past(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    encoder = Encoder(PLAN)
    parts: list[Encoded] = [encoder.encode(columns) for columns in chunks(PLAN)]
    cuts = len(parts) // 3, 2 * len(parts) // 3
    assert 0 < cuts[0] < cuts[1] < len(parts)
    async with trial(settings_for(kafka, prefix, tmp_path), PLAN, roles=ONE_EACH, definitions=RULES) as made:
        first = made.settings
        await made.write(parts[: cuts[0]], lambda w, at: None)
        made.start()
        await made.settled(100)
        before = await given(made)
        assert before
        await publish(first, [LATER])

        # Rows come meanwhile, and the version in force works them.
        writing = asyncio.create_task(made.write(parts[cuts[0] : cuts[1]], lambda w, at: None))
        second = first.model_copy(update={"figures": 2})
        with pytest.raises(
            MissingTopic, match="no figures of version 2: make them with `uptake rebuild` under UPTAKE_FIG"
        ):
            await _start(second)
        rebuilt: Rebuilt = await rebuild(first, ONE_EACH, within_s=100)
        await writing
        assert rebuilt.figures == 2 and rebuilt.commands > 0
        assert {name: of.new > 0 for name, of in rebuilt.tables.items()} == {
            "tables.adoption": True,
            "tables.health": True,
        }
        kept_apart = await given(Trial(beside(first), made.supervisor, PLAN))
        assert any(id_ not in before for id_ in kept_apart)

        # What the rebuild has not seen, the version in force says, before it ends.
        await made.write(parts[cuts[1] :], lambda w, at: None)
        await made.settled(100)
        assert set(before) <= set(await given(made))
        await made.supervisor.stop()
        by_first = await given(made)
        assert len(by_first) == len(set(by_first))

        await require_topics(second)
        async with version(made, second) as now:
            await now.settled(100)
            with pytest.raises(CannotRebuild, match="version 2 is, or was, in force: set UPTAKE_FIGURES=2"):
                await rebuild(first, ONE_EACH)
        judge, _ = await judged(second)
        differences = [
            compare.adoption((await now.table("adoption")).values(), judge, ends_of(judge, PLAN, 40)),
            compare.health((await now.table("health")).values(), judge),
        ]
        assert [(d.differing, d.compared > 100) for d in differences] == [(0, True), (0, True)], differences
        assert set(await given(now)) == set(by_first)

        assert set(await drop_old(second)) > {first.topic("state.meter"), f"{first.topic_prefix}commands.product.v2"}
        assert "state.meter" not in await existing(first)
        await require_topics(second)


async def _start(settings: Settings) -> None:
    await create(settings.model_copy(update={"rebuilding": True}))
    await require_topics(settings)


@pytest.mark.timeout(60)
async def test_what_is_not_done_in_time_is_no_version(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, prefix, tmp_path)
    await create(settings)
    with pytest.raises(CannotRebuild, match="version 2 has not caught up in 0 s: run it again, it goes on"):
        await rebuild(settings, ONE_EACH, within_s=0.01)
    with pytest.raises(MissingTopic, match="no figures of version 2"):
        await require_topics(settings.model_copy(update={"figures": 2}))
