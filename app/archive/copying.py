"""A range of the topics as a small archive, for a backtest where no archive is kept."""

from __future__ import annotations

import numpy as np

from app.archive.write import Writer
from app.kafka import read
from app.settings import Settings
from core.archive import TOPICS, Chunk, Keeper
from core.batch import Batch

MAX_ROWS = 200_000


class _Key:
    def __init__(self, key: bytes | None) -> None:
        self._key = key

    def key(self, row: int) -> bytes | None:
        return self._key


async def copy(settings: Settings, url: str) -> int:
    """Everything that the topics hold now, into the place at `url`; how many rows. Raises `NoKafka`, `MissingTopic`, `Unavailable`."""
    writer = Writer(settings.model_copy(update={"archive_url": url}))
    waiting: dict[tuple[str, int], Chunk] = {}
    keeper, rows = Keeper(), 0
    async for record in read(settings, TOPICS):
        one = Batch(
            record.topic,
            record.partition,
            [record.value],
            np.array([record.offset]),
            np.array([record.timestamp]),
            record.offset + 1,
            _Key(record.key),
        )
        if not keeper.keep(one, 0):
            continue
        place = (record.topic, record.partition)
        chunk = waiting.setdefault(place, Chunk(*place))
        chunk.add(record.offset, record.timestamp, record.key, record.value, record.headers)
        rows += 1
        if len(chunk) >= MAX_ROWS:
            await writer.write(record.partition, [waiting.pop(place)], {})
    for (_, partition), chunk in waiting.items():
        await writer.write(partition, [chunk], {})
    await writer.definitions()
    return rows
