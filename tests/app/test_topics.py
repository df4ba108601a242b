"""Topics are made as declared, once; another partition count is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app import topics
from app.kafka import admin
from schemas.topics import TOPICS
from tests.helpers.settings import settings_for

pytestmark = pytest.mark.kafka


async def test_all_declared_topics_with_their_settings(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, prefix, tmp_path)
    first = await topics.create(settings)
    assert sorted(first.created) == sorted(t.name for t in TOPICS)
    again = await topics.create(settings)
    assert again.created == [] and len(again.present) == len(TOPICS)
    counts = await topics.existing(settings)
    assert counts["definitions"] == 1 and counts["events.usage"] == 2
    async with admin(settings) as client:
        [answer] = await client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, settings.topic("tables.adoption"))]
        )
    config = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert config["cleanup.policy"] == "compact,delete"
    assert config["message.timestamp.type"] == "LogAppendTime"


async def test_another_partition_count_is_refused(kafka: str, prefix: str, tmp_path: Path) -> None:
    await topics.create(settings_for(kafka, prefix, tmp_path))
    with pytest.raises(topics.TopicsDiffer, match="UPTAKE_PARTITIONS=2"):
        await topics.create(settings_for(kafka, prefix, tmp_path, partitions=3))
