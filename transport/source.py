"""What a runner needs of the consumer. Topics carry their prefix here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from aiokafka import TopicPartition

from core.effects import Effect


class Source(Protocol):
    """Filled by `runs.Runs` over Faust's consumer."""

    async def bounds(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """First offset and end of each."""

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has; 0: it does not exist."""

    async def begin(self, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Seek and start delivering; gives the number of each seek."""

    def hold(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering."""

    def end(self, partition: TopicPartition) -> tuple[int, int] | None:
        """High watermark and the wall time (ms) at which the broker said so; None: not yet known."""

    def held(self, partition: TopicPartition) -> int | None:
        """The offset from which on an open transaction of a producer holds rows back that are there; None: none does."""

    def fetched(self, partition: TopicPartition) -> int:
        """The fetch position: what stands before it was handed out. 0: none."""

    async def commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the group's offsets, for lag tools; failure is only logged."""

    async def produce(self, effects: list[Effect]) -> None:
        """Write Emits and dead letters of tasks that make no checkpoints."""
