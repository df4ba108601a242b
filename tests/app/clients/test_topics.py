"""Which topics exist, asked of a real Kafka."""

from __future__ import annotations

import pytest

from app.clients.outside import Clients
from app.clients.topics import Topics
from app.settings import Settings
from integrations.base import RecordRequest
from tests.helpers.kafka import free_port, make_topic


@pytest.mark.kafka
async def test_a_record_waits_until_its_topic_is_there(kafka: str, prefix: str) -> None:
    now = 1_000_000
    settings = Settings(kafka=kafka, topic_prefix=prefix)
    topics = Topics(settings, lambda: now)
    assert not await topics.exists("team.in")
    await make_topic(settings, settings.topic("team.in"))
    assert not await topics.exists("team.in")  # asked a moment ago
    now += 1_000
    assert await topics.exists("team.in")
    assert not await topics.exists("team.out")
    clients = Clients.from_settings(settings)
    for topic, failure in (("team.in", None), ("team.out", "no_topic")):
        response = await clients.send("all", RecordRequest(topic, b"k", b"v"))
        assert response.failure == failure
    await clients.close()


async def test_a_cluster_that_does_not_answer_has_no_topics() -> None:
    topics = Topics(Settings(kafka=f"127.0.0.1:{free_port()}"), lambda: 0)
    assert not await topics.exists("team.in")
