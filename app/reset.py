"""Starting over: state away, figures made again from the log; or everything away."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from sqlalchemy.exc import SQLAlchemyError

from app import topics
from app.kafka import admin
from app.settings import Settings
from app.store import open_store
from app.store.tables import METADATA
from app.watch import workers
from schemas.topics import FIGURES


class StillRunning(RuntimeError):
    """Workers run; the message names the next move."""


async def reset(settings: Settings, *, everything: bool) -> list[str]:
    """Deletes and makes anew the figures' topics (or all of ours) and the read model; gives the names.

    Raises `StillRunning` where workers of this data directory answer, `NoKafka` where the cluster does not.
    """
    running = await workers(settings, metrics=False)
    if running:
        raise StillRunning(
            f"{', '.join(w.name for w in running)} still run: stop `uptake worker` (or `uptake up`) first"
        )
    there = await topics.existing(settings)
    gone = sorted(t for t in there if everything or t in FIGURES)
    async with admin(settings) as client:
        if gone:
            answer = await client.delete_topics([settings.topic(t) for t in gone])
            for topic, code in answer.topic_error_codes:
                if code and for_code(code) is not UnknownTopicOrPartitionError:
                    raise RuntimeError(f"Kafka would not delete {topic}: {for_code(code).__name__}")
        while set(gone) & set(await topics.existing(settings)):
            await asyncio.sleep(0.1)
    await topics.create(settings)
    await _drop_read_model(settings)
    return gone


async def _drop_read_model(settings: Settings) -> None:
    if settings.database_url is None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{settings.data_dir / 'read-model.db'}{suffix}").unlink(missing_ok=True)
        return
    store = await open_store(settings.store_url)
    try:
        async with store.writer.begin() as connection:
            await connection.run_sync(METADATA.drop_all)
    except SQLAlchemyError as error:
        raise RuntimeError(f"the read model's tables could not be dropped: {type(error).__name__}") from error
    finally:
        await store.close()
