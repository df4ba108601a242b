"""Acts on Uptake's commands: a complete consumer in Python.

    pip install aiokafka
    KAFKA=localhost:9092 GROUP=tutorials DONE=done python consumer.py

Reads `commands.product`, does what `product.tutorial.deploy` asks for, each command once, and prints what it did.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer

HANDLES = "product.tutorial.deploy"


def act(command: dict) -> None:
    """Your part. Pass `command["id"]` on as idempotency key, so that doing it twice is doing it once."""
    print(
        json.dumps({"deployed": command["subject"], "because": command["why"]["reason"], "id": command["id"]}),
        flush=True,
    )


def handle(command: dict, done: Path) -> bool:
    """Whether it was for us and is done now."""
    if command["type"] != HANDLES:
        return False  # someone else's; types are added over time, so skip what you do not know
    if time.time_ns() // 1_000_000 >= command["expires_at"]:
        return False  # too late: nobody acts on it any more
    mark = done / command["id"]  # in real life a row of your database
    if not mark.exists():
        act(command)
        mark.touch()
    return True


async def main() -> None:
    """Read, act, commit, for ever (or until LIMIT commands are done)."""
    done = Path(os.environ.get("DONE", "done"))
    done.mkdir(parents=True, exist_ok=True)
    limit = int(os.environ.get("LIMIT", sys.maxsize))
    consumer = AIOKafkaConsumer(
        os.environ.get("TOPIC_PREFIX", "") + "commands.product",
        bootstrap_servers=os.environ.get("KAFKA", "localhost:9092"),
        group_id=os.environ.get("GROUP", "tutorials"),
        isolation_level="read_committed",  # commands come in transactions: see only those that were committed
        auto_offset_reset="earliest",
        enable_auto_commit=False,  # the position is written when the work is done, not before
    )
    await consumer.start()
    try:
        handled = 0
        async for record in consumer:
            handled += handle(json.loads(record.value), done)
            await consumer.commit()
            if handled >= limit:
                return
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
