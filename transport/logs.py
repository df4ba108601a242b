"""Reading many partitions at once, committed rows only, each up to an end that is fixed beforehand: for copies of the log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from transport.blocks import Block
from transport.fetching import BlockConsumer, Fetching, block_consumer
from transport.looking import look_at
from transport.options import Security

STALLED_S: Final = 180.0
"""Longer than the longest transaction of ours: an end that is not reached by then is held back by somebody else's."""


class LogStalled(Exception):
    """A partition's end cannot be read; the message names the next move."""


class LogReader:
    """Takes part in no group. Use as an async context manager."""

    def __init__(self, bootstrap: str, *, security: Security | None = None, fetch_bytes: int = 2 << 20) -> None:
        common: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "enable_auto_commit": False,
            "retry_backoff_ms": 10,
            **(security or Security()).client(),
        }
        self._rows: BlockConsumer = block_consumer(
            Fetching(batch_rows=20_000, refetches=3, records=False),
            isolation_level="read_committed",
            auto_offset_reset="none",
            max_partition_fetch_bytes=fetch_bytes,
            fetch_max_wait_ms=20,
            **common,
        )
        # What stands in the log, whether its transaction is over or not: a committed-only client would be told less.
        self._ends = AIOKafkaConsumer(isolation_level="read_uncommitted", **common)

    async def __aenter__(self) -> LogReader:
        try:
            await self._ends.start()
            await self._rows.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ends.stop()
        await self._rows.stop()

    async def bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """First offset and high watermark of each."""
        tps = list(partitions)
        if not tps:
            return {}
        look_at(self._ends, tps)
        firsts, ends = await self._ends.beginning_offsets(tps), await self._ends.end_offsets(tps)
        return {tp: (firsts[tp], ends[tp]) for tp in tps}

    async def first_after(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int | None]:
        """The first offset whose row is younger than the time, milliseconds; None: no row is."""
        if not times:
            return {}
        found = await self._ends.offsets_for_times({tp: at + 1 for tp, at in times.items()})
        return {tp: None if (at := found.get(tp)) is None or at.offset < 0 else at.offset for tp in times}

    async def read(self, spans: Mapping[TopicPartition, tuple[int, int]]) -> AsyncIterator[Block]:
        """Every block of `[begin, end)` of each partition, in offset order within one. Waits for transactions that are open below
        an end. The last block of a partition may go on behind its end.

        Raises `LogStalled` where no partition moves for longer than a transaction may last.
        """
        waiting = {tp: end for tp, (begin, end) in spans.items() if begin < end}
        if not waiting:
            return
        self._rows.assign(list(waiting))
        for tp in waiting:
            self._rows.seek(tp, spans[tp][0])
        moved = time.monotonic()
        while waiting:
            # One block: inflated rows of all partitions at once have been gigabytes. The rest waits as it was fetched.
            fetched = await self._rows.getmany(*waiting, timeout_ms=200, max_records=1)
            for tp, blocks in fetched.items():
                for block in blocks:
                    moved = time.monotonic()
                    yield block
                    if block.next_offset >= waiting.get(tp, block.next_offset + 1):
                        del waiting[tp]
                        self._rows.pause(tp)
            if waiting and time.monotonic() - moved > STALLED_S:
                named = ", ".join(f"{tp.topic}/{tp.partition}" for tp in waiting)
                raise LogStalled(
                    f"{named}: the end cannot be read, somebody's transaction stays open "
                    "(`kafka-transactions.sh find-hanging` names it): end it, then try again"
                )
