"""What was committed can be read: Kafka answers a commit before every partition shows it."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.kafka import Record, client, ends_of, partition_counts, partitions_of, read, shown
from app.settings import Settings


async def all_shown(settings: Settings, *topics: str) -> None:
    """Returns once all that stands in these topics now can be read; without topics, in all those with the settings' prefix."""
    if topics:
        places = await partitions_of(settings, topics)
    else:
        async with _everything(settings) as made:
            names = [name for name in await made.topics() if name.startswith(settings.topic_prefix)]
        counts = await partition_counts(settings, names)
        places = [TopicPartition(name, partition) for name, count in counts.items() for partition in range(count)]
    async with _everything(settings) as made:
        ends = await ends_of(made, places)
    assert await shown(settings, ends, within_s=60), "a transaction stays open"


async def rows_in(settings: Settings, *topics: str) -> list[Record]:
    """Every row of these topics, those of commits that are still being marked too."""
    await all_shown(settings, *topics)
    return [record async for record in read(settings, topics)]


def _everything(settings: Settings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(**client(settings), enable_auto_commit=False, isolation_level="read_uncommitted")
