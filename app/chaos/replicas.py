"""Whether the brokers have come back from a fault: each partition is where it should be, as often as it should be."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaError

from app.kafka import NoKafka, admin
from app.settings import Settings

LOOK_S = 1.0


async def in_sync(settings: Settings, within_s: float) -> bool:
    """Waits until no replica of any topic is behind; False when some still are after so long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (left := deadline - loop.time()) > 0:
        try:
            if not await asyncio.wait_for(behind(settings), left):
                return True
        except (KafkaError, NoKafka, OSError, TimeoutError):
            pass  # who has just started may not answer yet
        await asyncio.sleep(LOOK_S)
    return False


async def behind(settings: Settings) -> list[str]:
    """`topic-partition` of those that some replica does not follow, Kafka's own topics among them. Raises `KafkaError`, `NoKafka`."""
    async with admin(settings) as made:
        described: list[dict[str, Any]] = await made.describe_topics()
    return [
        f"{topic['topic']}-{partition['partition']}"
        for topic in described
        for partition in topic["partitions"]
        if len(partition["isr"]) < len(partition["replicas"])
    ]
