"""Definitions on their topic: versions, heads, following, retiring."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app import topics
from app.definitions import Definitions, load, publish, retire
from app.kafka import MissingTopic, NoKafka, producer, read, settle
from app.settings import Settings
from schemas.definitions import Pause, Product
from tests.helpers.kafka import free_port
from tests.helpers.settings import settings_for

pytestmark = pytest.mark.kafka


@pytest.fixture
async def settings(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    made = settings_for(kafka, prefix, tmp_path)
    await topics.create(made)
    return made


async def test_only_what_changed_gets_a_new_version(settings: Settings) -> None:
    one, two = Product(tenant="acme", name="studio"), Product(tenant="acme", name="portal")
    assert [d.version for d in await publish(settings, [one, two])] == [1, 1]
    assert await publish(settings, [one, two]) == []
    changed = await publish(settings, [one.model_copy(update={"slo": 0.99}), two])
    assert [(d.name, d.version) for d in changed] == [("studio", 2)]
    keys = [r.key async for r in read(settings, ["definitions"])]
    assert keys.count(b"acme|product|studio") == 2
    assert {b"acme|product|studio|1", b"acme|product|studio|2"} <= set(keys)
    catalogue = await load(settings)
    assert catalogue.product("acme", "studio").slo == 0.99


async def test_followers_see_changes_and_retirements_and_refuse_nonsense(settings: Settings) -> None:
    pause = Pause(name="tenant:acme", scope="tenant", of="acme")
    await publish(settings, [pause])
    following = Definitions(settings)
    catalogue = await following.start()
    try:
        assert catalogue.paused("acme")
        async with producer(settings) as made:
            await made.send_and_wait(settings.topic("definitions"), b'{"kind":"no"}', key=b"acme|rule|x")
        await retire(settings, [pause])
        assert await settle(lambda: not catalogue.paused("acme"), within_s=60)
        assert following.refused == 1
        assert following.failure is None
    finally:
        await following.stop()


async def test_no_topic_and_no_kafka_are_said(kafka: str, prefix: str, tmp_path: Path) -> None:
    with pytest.raises(MissingTopic, match="topics create"):
        await Definitions(settings_for(kafka, prefix, tmp_path)).start()
    with pytest.raises(NoKafka, match="does not answer"):
        await asyncio.wait_for(load(settings_for(f"127.0.0.1:{free_port()}", prefix, tmp_path)), 30)
    with pytest.raises(NoKafka, match="broker start"):
        await load(settings_for(kafka, prefix, tmp_path).model_copy(update={"kafka": None}))
