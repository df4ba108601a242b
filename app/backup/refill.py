"""Segments → Kafka: rows with their partition, order and broker times. Offsets begin at 0, and old ones are mapped to new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from app.backup.manifest import Copy, Segment
from app.backup.place import Place
from app.backup.segments import read_frame, unpack_headers
from app.kafka import acknowledged
from core.batch import Int64s
from schemas.delivery import CHECKPOINT_HEADER
from transport.state import read_checkpoint

IN_FLIGHT: Final = 32
"""Batches that may wait for the broker's acknowledgement."""
BATCH_BYTES: Final = 512 << 10

Behind = Callable[[str, int], bool]
KeyValue = tuple[bytes | None, bytes | None]
Change = Callable[[int, bytes | None, bytes | None], KeyValue]
"""(partition, key, value) → key and value to write."""


class Moved:
    """Old offsets of one topic → new ones. A new offset is the count of rows written that stood before the old one."""

    def __init__(self, wanted: Iterable[tuple[int, int]], named: Iterable[tuple[int, int]] = ()) -> None:
        """`wanted`: positions of readers. `named`: rows that other rows speak of."""
        self._new: dict[tuple[int, int], int] = dict.fromkeys(wanted, 0)
        self._named: dict[int, dict[int, int | None]] = {}
        for partition, offset in named:
            self._named.setdefault(partition, {})[offset] = None
        self.rows: dict[int, int] = {}
        """By partition: where the log must end."""
        self.dropped = 0
        """Rows left out: written behind the cut."""
        self.overtaken = 0
        """Of these, rows that a reader had read already: its writer writes them again. None in a cut without loops."""

    def see(self, partition: int, kept: Int64s, dropped: Int64s) -> None:
        """Offsets of one partition, ascending, that were written and that were left out."""
        before = self.rows.get(partition, 0)
        self.rows[partition] = before + len(kept)
        self.dropped += len(dropped)
        ahead = 0
        for place in self._new:
            if place[0] == partition:
                self._new[place] += int(np.searchsorted(kept, place[1]))
                ahead = max(ahead, int(np.searchsorted(dropped, place[1])))
        self.overtaken += ahead
        if (named := self._named.get(partition)) and len(kept):
            places = np.fromiter(named, np.int64, len(named))
            found = np.searchsorted(kept, places)
            there = kept[np.minimum(found, len(kept) - 1)] == places
            named.update(zip(places[there].tolist(), (before + found[there]).tolist(), strict=True))

    def row(self, partition: int, old: int) -> int | None:
        """Where a row that was named stands now; None: it was not written."""
        return self._named.get(partition, {}).get(old)

    def to(self, partition: int, old: int) -> int:
        """The new offset; 0 for one that was not asked for at the beginning."""
        return self._new.get((partition, old), 0)


class Refill:
    """Writes copies into empty topics by one idempotent producer. Use as an async context manager."""

    def __init__(self, client: Mapping[str, Any], place: Place) -> None:
        self._place = place
        self._producer = AIOKafkaProducer(
            **client,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            max_request_size=4 << 20,
            retry_backoff_ms=20,
        )
        self._sent: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Refill:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def topic(
        self,
        full: str,
        copy: Copy,
        *,
        wanted: Iterable[tuple[int, int]] = (),
        named: Iterable[tuple[int, int]] = (),
        behind: Behind | None = None,
        ends: Mapping[int, int] | None = None,
        change: Change | None = None,
    ) -> Moved:
        """Write a whole copy into the topic `full` and wait for it; maps the `wanted` and the `named` (partition, offset).

        Rows are left out where `behind` says so of the checkpoint that wrote them (task, number), and from `ends` on, by partition.
        """
        moved = Moved(wanted, named)
        for segment in copy.segments:
            await self._segment(full, segment, moved, behind, ends, change)
        self._sent = await acknowledged(self._sent, len(self._sent))
        return moved

    async def _segment(
        self,
        full: str,
        segment: Segment,
        moved: Moved,
        behind: Behind | None,
        ends: Mapping[int, int] | None,
        change: Change | None,
    ) -> None:
        frame = await read_frame(self._place, segment)
        for (partition,), rows in frame.partition_by("partition", as_dict=True).items():
            offsets = rows["offset"].to_numpy()
            keep = offsets < ends.get(partition, 0) if ends is not None else np.ones(len(offsets), np.bool_)
            if behind is not None:
                keep &= ~left_out(rows["headers"], behind)
            moved.see(partition, offsets[keep], offsets[~keep])
            await self._write(full, partition, rows.filter(pl.Series(keep)), change)

    async def _write(self, full: str, partition: int, rows: pl.DataFrame, change: Change | None) -> None:
        batch: BatchBuilder | None = None
        for timestamp, key, value, packed in rows.select("timestamp", "key", "value", "headers").iter_rows():
            if change is not None:
                key, value = change(partition, key, value)
            row = {"timestamp": timestamp, "key": key, "value": value, "headers": list(unpack_headers(packed))}
            if batch is None or batch.append(**row) is None:
                if batch is not None:
                    await self._send(full, partition, batch)
                batch = self._producer.create_batch()
                batch.append(**row)
        if batch is not None:
            await self._send(full, partition, batch)

    async def _send(self, full: str, partition: int, batch: BatchBuilder) -> None:
        batch.close()
        self._sent.add(await self._producer.send_batch(batch, full, partition=partition))
        self._sent = await acknowledged(self._sent, len(self._sent) - IN_FLIGHT)


def left_out(headers: pl.Series, behind: Behind) -> Any:
    """Which rows were written by a checkpoint behind the cut."""
    out = np.zeros(len(headers), np.bool_)
    for row, packed in enumerate(headers):
        if packed is not None:
            for name, value in unpack_headers(packed):
                if name == CHECKPOINT_HEADER:
                    out[row] = _behind(value, behind)
    return out


def _behind(value: bytes, behind: Behind) -> bool:
    try:
        return behind(*read_checkpoint(value))
    except ValueError:  # somebody else's header of that name
        return False
