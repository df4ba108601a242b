"""Topics as declared in `schemas.topics`: create what is missing, compare what is there."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from aiokafka.admin import NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from app.kafka import admin, client, partition_counts
from app.settings import Settings
from schemas.topics import TOPICS, TopicSpec

LED_WITHIN_S = 20.0


class TopicsDiffer(RuntimeError):
    """Topics exist with another partition count; the message names the next move."""


@dataclass(frozen=True, slots=True)
class TopicsReport:
    """What `create` did, by topic name without prefix."""

    created: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)


def wanted(spec: TopicSpec, settings: Settings) -> int:
    """The partition count a topic should have."""
    return spec.partitions or settings.partitions


async def create(settings: Settings) -> TopicsReport:
    """Makes every topic that is missing. Raises `TopicsDiffer` before it makes any, where some have another count."""
    counts = await existing(settings)
    refuse_other_counts(settings, counts)
    missing = [t for t in TOPICS if t.name not in counts]
    async with admin(settings) as made:
        answer = await made.create_topics(
            [
                NewTopic(
                    settings.topic(t.name),
                    wanted(t, settings),
                    settings.replication,
                    # aiokafka refuses -1 ("the cluster's default") unless assignments are given; none is what is meant
                    replica_assignments={} if settings.replication == -1 else None,
                    topic_configs=t.config(),
                )
                for t in missing
            ]
        )
        for topic, code, *message in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise RuntimeError(f"Kafka would not create {topic}: {error.__name__} {' '.join(map(str, message))}")
        await led(settings, [settings.topic(t.name) for t in missing])
    return TopicsReport([t.name for t in missing], [t.name for t in TOPICS if t.name in counts])


async def existing(settings: Settings) -> dict[str, int]:
    """Partition counts of our topics that exist, by name without prefix."""
    names = {settings.topic(t.name): t.name for t in TOPICS}
    return {names[full]: count for full, count in (await partition_counts(settings, names)).items()}


def refuse_other_counts(settings: Settings, counts: dict[str, int]) -> None:
    """Raises `TopicsDiffer` where a topic has another partition count than the settings: the count is part of the state."""
    for spec in TOPICS:
        count = counts.get(spec.name)
        if count is not None and count != wanted(spec, settings):
            raise TopicsDiffer(
                f"topic {settings.topic(spec.name)} has {count} partitions, the settings say {wanted(spec, settings)}. "
                f"Set UPTAKE_PARTITIONS={count}, or start a new generation with another UPTAKE_TOPIC_PREFIX and send the "
                "log again (`uptake topics resize` tells how)"
            )


async def led(settings: Settings, topics: list[str]) -> None:
    """Waits until every partition has a leader and every broker knows it: who reads or writes before that gets errors. A broker that
    does not answer is left out. Takes full names.
    """
    if not topics:
        return
    deadline = asyncio.get_running_loop().time() + LED_WITHIN_S
    made = AIOKafkaClient(**client(settings))
    try:
        await made.bootstrap()
        for broker in made.cluster.brokers():
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    while not await _knows(made, broker.nodeId, topics):
                        await asyncio.sleep(0.1)
    finally:
        await made.close()


async def _knows(made: AIOKafkaClient, node: int, topics: list[str]) -> bool:
    """The admin client's question goes to any one of the brokers; another may be behind for seconds where all are busy."""
    if not await made.ready(node):
        return False
    answer = (await made.send(node, MetadataRequest(topics, allow_auto_topic_creation=False))).to_object()
    described = {topic["topic"]: topic["partitions"] for topic in answer["topics"]}
    return all(described.get(topic) and all(p["leader"] >= 0 for p in described[topic]) for topic in topics)
