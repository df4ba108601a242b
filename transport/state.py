"""Reading a checkpointed state: for recovery, and for whoever wants a read-only replica of a role's state.

A state topic's partition holds the records a task drained, and one record a task group under a reserved key that says
where in the source topics that state stands (`Positions`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from aiokafka import TopicPartition

from schemas.delivery import CHECKPOINT_HEADER
from transport.fetching import BlockConsumer, Fetching
from transport.options import Security
from transport.surroundings import REAL, Surroundings

POSITIONS: Final = b"\x00positions|"
"""Keys of `Positions` begin with it; tasks must not use it."""
FORMAT: Final = 1


class StateFormatError(Exception):
    """The state was written by another version of this room, or for another number of partitions."""


class Positions(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task's state stands: the next offset of each of its source topics (names without prefix)."""

    format: int = FORMAT
    partitions: int
    """Partition count of the source topics: state and log belong together only while it stays."""
    next: dict[str, int]
    at: int
    """Wall time of the checkpoint, milliseconds."""
    state: int = 1
    """Format of the state's other records (`TaskSpec.state_format`)."""
    number: int = 0
    """Grows by one with each checkpoint of the task, over all its owners, from the wall time (milliseconds) of its first one on: so
    it never comes again, also where the state was thrown away. 0: made by a version that had no numbers. Records that the
    same transaction wrote carry it in their header `CHECKPOINT_HEADER`."""


def positions_key(group: str) -> bytes:
    """The reserved key of a task group's positions."""
    return POSITIONS + group.encode()


def task_id(role: str, group: str, partition: int) -> str:
    """`role|group|partition`, a task's name among all."""
    return f"{role}|{group}|{partition}"


def checkpoint_header(task: str, number: int) -> tuple[str, bytes]:
    """The header that says which checkpoint of which task (`task_id`) wrote a record."""
    return CHECKPOINT_HEADER, f"{task}|{number}".encode()


def read_checkpoint(value: bytes) -> tuple[str, int]:
    """Task and number in the header's value. Raises `ValueError` where it is none of ours."""
    task, _, number = value.decode().rpartition("|")
    return task, int(number)


def encode_positions(positions: Positions) -> bytes:
    """The record's value."""
    return msgspec.json.encode(positions)


def decode_positions(value: bytes) -> Positions:
    """Raises `StateFormatError` for a state that this version cannot read."""
    try:
        positions = msgspec.json.decode(value, type=Positions)
    except msgspec.DecodeError as error:
        raise StateFormatError(f"the positions of the state cannot be read: {error}") from error
    if positions.format != FORMAT:
        raise newer_state(f"format {positions.format}", FORMAT)
    return positions


def newer_state(found: str, known: int) -> StateFormatError:
    """The error of a state that this version must not go on with."""
    return StateFormatError(
        f"the state has {found}, this version reads {known}: run the version that wrote it, "
        "or `uptake reset` to rebuild it from the log"
    )


class StateReader:
    """Reads one partition of a compacted topic, committed records only, to its end and, when asked again, on from there."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partition: int,
        *,
        security: Security | None = None,
        fetch_bytes: int = 8 << 20,
        around: Surroundings = REAL,
    ) -> None:
        self._around = around
        self._partition = TopicPartition(topic, partition)
        self._position = 0
        self._arguments = {
            "bootstrap_servers": bootstrap,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "max_partition_fetch_bytes": fetch_bytes,
            "fetch_max_wait_ms": 10,
            "retry_backoff_ms": 10,
            **(security or Security()).client(),
        }
        self._consumer: BlockConsumer | None = None

    async def __aenter__(self) -> StateReader:
        shared = Fetching(batch_rows=1 << 30, refetches=3, records=False)
        consumer: BlockConsumer = self._around.consumer(shared, **self._arguments)
        try:
            await consumer.start()
            await _check_topic(consumer, self._partition)
            consumer.assign([self._partition])
            self._position = (await consumer.beginning_offsets([self._partition]))[self._partition]
            consumer.seek(self._partition, self._position)
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    @property
    def position(self) -> int:
        """Next offset to be read."""
        return self._position

    async def records(self) -> AsyncIterator[tuple[bytes, bytes | None]]:
        """Every record up to where the log ended when this began, deleted keys as None, `Positions` among them.

        The end is the high watermark, so that a transaction still being committed by somebody else is waited for.
        Raises `StateFormatError` where a stored batch cannot be read: a state with a hole is not a state.
        """
        consumer, partition = self._consumer, self._partition
        assert consumer is not None, "use it as a context manager"
        target: int | None = None
        while True:
            blocks = (await consumer.getmany(partition, timeout_ms=200)).get(partition, ())
            for block in blocks:
                if block.spoiled:
                    raise StateFormatError(
                        f"{partition} at offset {block.spoiled[0].offset}: {block.spoiled[0].detail}"
                    )
                for row, value in enumerate(block.values):
                    yield block.keys.key(row) or b"", value
                self._position = block.next_offset
            if target is None and consumer.last_poll_timestamp(partition):
                target = consumer.highwater(partition)
            if target is not None and self._position >= target:
                return


async def _check_topic(consumer: BlockConsumer, partition: TopicPartition) -> None:
    cluster = await consumer._client.fetch_all_metadata()
    partitions = cluster.partitions_for_topic(partition.topic)
    if not partitions:
        raise StateFormatError(f"the topic {partition.topic} does not exist: run `uptake topics create`")
    if partition.partition not in partitions:
        raise StateFormatError(
            f"{partition.topic} has no partition {partition.partition}: run `uptake topics resize`, "
            "its partition count must not be less than that of the source topics"
        )


async def read_state(
    bootstrap: str, topic: str, partition: int, *, security: Security | None = None
) -> AsyncIterator[tuple[bytes, bytes | None]]:
    """The records of a state partition up to its present end, in log order, without `Positions`.

    A key may come more than once, the later one wins; None deletes it. Read-only: takes part in no group.
    """
    async with StateReader(bootstrap, topic, partition, security=security) as reader:
        async for key, value in reader.records():
            if not key.startswith(POSITIONS):
                yield key, value
