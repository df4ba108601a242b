"""Open transactions that hold readers back. Rows behind one are seen by nobody who reads committed rows only, until it ends.

The stable offset of a log moves with every transaction that ends, so one that stands still before the log's end belongs to
one and the same transaction: for as long, at least, as the broker has said so.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import TopicPartition


class Stalls:
    """How long each partition's stable offset has stood still before its log's end."""

    def __init__(self) -> None:
        self._seen: dict[TopicPartition, tuple[int, int]] = {}
        """Stable offset, and when the broker first said so."""

    def look(self, partition: TopicPartition, stable: int | None, end: int, at: int) -> float:
        """Seconds, by what the broker said at `at` (ms); 0 where no transaction is open. Silence adds nothing."""
        if stable is None or not 0 <= stable < end:
            self._seen.pop(partition, None)
            return 0.0
        before = self._seen.get(partition)
        if before is None or before[0] != stable:
            self._seen[partition] = (stable, at)
            return 0.0
        return max(0, at - before[1]) / 1_000

    def forget(self, still: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Forget the partitions that are not among `still`, and name them."""
        gone = [partition for partition in self._seen if partition not in set(still)]
        for partition in gone:
            del self._seen[partition]
        return gone
