"""A checkpoint: one Kafka transaction of one partition with state, outputs and positions together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from core.batch import Headers
from core.effects import DeadLetter, Effect, Emit
from core.task import StateRecord, TaskSpec
from schemas.delivery import CHECKPOINT_HEADER, CUT_HEADER, DEAD_LETTER_HEADERS, REPLAYS_HEADER
from transport.options import Options
from transport.phases import Mark, Phase, Phases
from transport.state import Positions, checkpoint_header, encode_positions, positions_key, task_id
from transport.surroundings import REAL, Surroundings

BATCH_BYTES = 768 << 10
"""Uncompressed bytes of one produced batch; below the default limit of a broker's topic."""
REQUEST_BYTES = (2 << 20) + (64 << 10)
LETTER_BYTES = 1_900_000
"""A dead letter's value is cut off here: topics take records of 2 MiB."""
_BROKERS_TIME = 1
"""`RecordMetadata.timestamp_type` of a topic with LogAppendTime."""

T = TypeVar("T")


class Fenced(Exception):
    """Another producer has taken over this partition's transactional id."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one transaction writes. Copied out: the task goes on meanwhile."""

    state: Sequence[StateRecord]
    effects: Sequence[Effect]
    positions: Positions
    offsets: Mapping[TopicPartition, int]
    """For the consumer group, which serves lag tools; may be empty."""

    @property
    def state_bytes(self) -> int:
        """Bytes of keys and values of the state's records."""
        return sum(len(key) + len(value or b"") for key, value in self.state)


@dataclass(frozen=True, slots=True)
class Record:
    """One record to produce; `topic` as Kafka knows it."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()


def records_of(effects: Sequence[Effect], options: Options) -> Iterator[Record]:
    """The records that effects write: Emits as they are, dead letters with their original bytes and why in headers."""
    for effect in effects:
        if isinstance(effect, Emit):
            yield Record(options.topic(effect.topic), effect.key, effect.value, effect.partition, effect.headers)
        elif isinstance(effect, DeadLetter):
            yield letter_of(effect, options)


def letter_of(letter: DeadLetter, options: Options) -> Record:
    """The record of a dead letter. Headers of the original row stay, but for those of an earlier death."""
    replays = next((value for name, value in letter.headers if name == REPLAYS_HEADER), b"0")
    value = letter.value
    detail = letter.detail
    cut: list[tuple[str, bytes]] = []
    if value is not None and len(value) > LETTER_BYTES:
        detail = f"{detail} (cut off: {len(value)} bytes)"
        value = value[:LETTER_BYTES]
        cut = [(CUT_HEADER, str(len(letter.value or b"")).encode())]
    said = (
        letter.step,
        letter.reason,
        detail,
        letter.topic,
        str(letter.partition),
        str(letter.offset),
        options.group,
        replays.decode(errors="replace"),
        str(letter.at),
    )
    headers = [(name, text.encode()) for name, text in zip(DEAD_LETTER_HEADERS, said, strict=True)]
    ours = (*DEAD_LETTER_HEADERS, CUT_HEADER, CHECKPOINT_HEADER)
    kept = [(name, content) for name, content in letter.headers if name not in ours]
    # aiokafka refuses a record without both; a row of nothing at all must not stop its partition.
    key = b"" if letter.key is None and value is None else letter.key
    return Record(options.topic("dead-letters"), key, value, None, (*headers, *cut, *kept))


def producer_arguments(options: Options) -> dict[str, Any]:
    """How every producer of this room is set."""
    return {
        "bootstrap_servers": options.servers(),
        "linger_ms": 0,
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": options.compression,
        "max_batch_size": BATCH_BYTES,
        "max_request_size": REQUEST_BYTES,
        "request_timeout_ms": options.request_timeout_ms,
        "retry_backoff_ms": options.retry_backoff_ms,
        **options.security.client(),
    }


def transactional_id(options: Options, spec: TaskSpec, partition: int) -> str:
    """`role|group|partition` behind the prefix: the next owner fences the one before it. A state of another version has others."""
    state = spec.state_topic or ""
    version = options.renamed.get(state, state).removeprefix(state)
    return f"{options.prefix}{spec.role}{version}|{spec.group}|{partition}"


async def transact(producer: Any, work: Coroutine[Any, Any, T], timeout_ms: int | None) -> T:
    """Await `work`, which makes one transaction (or writes plainly) with a started producer. After any error nothing more can be
    said of the producer: close it.

    Raises `Fenced` where another owner of its id has come, `KafkaError` or `TimeoutError` otherwise.
    """
    # aiokafka leaves callers waiting when its sender dies, so both are watched.
    sender = producer._sender.sender_task
    limit_s = None if timeout_ms is None else timeout_ms / 1000
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task, sender}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError(f"a transaction took longer than {timeout_ms} ms")
        if task not in done:
            sender.result()
            raise KafkaError("the producer stopped in the middle of its work")
        return task.result()
    except (ProducerFenced, InvalidProducerEpoch) as error:
        raise Fenced(str(error)) from error
    finally:
        task.cancel()


async def let_go(producer: Any) -> None:
    """End a producer, whatever state it is in."""
    # Stopping tries to deliver what is left; one that was fenced or lost its broker has nothing to deliver.
    with contextlib.suppress(Exception):
        await asyncio.wait_for(producer.stop(), 5)


def apart(before: float, stamped: float, after: float) -> float:
    """Seconds by which a clock that read `before` and `after` is surely ahead of the one that stamped in between."""
    return min(after - stamped, 0.0) if stamped > after else max(before - stamped, 0.0)


class Committer:
    """The transactional producer of one partition."""

    def __init__(
        self,
        options: Options,
        spec: TaskSpec,
        partition: int,
        around: Surroundings = REAL,
        mark: Mark | None = None,
    ) -> None:
        self._options = options
        self._around = around
        self._mark = mark or Phases(None).of("")
        self._spec = spec
        self._partition = partition
        self._producer = around.producer(
            transactional_id=transactional_id(options, spec, partition),
            transaction_timeout_ms=options.transaction_timeout_ms,
            **producer_arguments(options),
        )

    async def start(self) -> None:
        """Take the id over: `init_transactions` fences the owner before and ends what it left open."""
        try:
            await asyncio.wait_for(self._producer.start(), self._options.transaction_timeout_ms / 1000)
        except BaseException:
            await self.close()
            raise

    async def commit(self, checkpoint: Checkpoint) -> float | None:
        """Write everything or nothing. After any error nothing more can be said of this producer: close it.

        Returns by how many seconds this machine's clock is surely ahead of the broker's (behind it: negative; 0: no
        further apart than the way there and back), or None where no record went to a topic that the broker stamps.

        Raises `Fenced` where another owner has come, `KafkaError` or `TimeoutError` otherwise.
        """
        return await transact(self._producer, self._commit(checkpoint), self._options.transaction_timeout_ms)

    async def _commit(self, checkpoint: Checkpoint) -> float | None:
        producer, spec, partition = self._producer, self._spec, self._partition
        assert spec.state_topic is not None
        state_topic = self._options.topic(spec.state_topic)
        place = encode_positions(checkpoint.positions)
        stamp = checkpoint_header(task_id(spec.role, spec.group, partition), checkpoint.positions.number)
        self._mark.set(Phase.FILLING)
        await producer.begin_transaction()
        before = self._around.wall()
        sent = [
            await producer.send(state_topic, value, key=key, partition=partition)
            for key, value in (*checkpoint.state, (positions_key(spec.group), place))
        ]
        sent += [await self._send(record, stamp) for record in records_of(checkpoint.effects, self._options)]
        ahead: float | None = None
        for result in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            if result.timestamp_type == _BROKERS_TIME:
                ahead = apart(before, result.timestamp / 1_000, self._around.wall())
        if checkpoint.offsets:
            self._mark.set(Phase.OFFSETS)
            offsets = {tp: OffsetAndMetadata(offset, "") for tp, offset in checkpoint.offsets.items()}
            await producer.send_offsets_to_transaction(offsets, self._options.group)
        self._mark.set(Phase.COMMITTING)
        await producer.commit_transaction()
        self._mark.set(Phase.WORKING)
        return ahead

    async def _send(self, record: Record, stamp: tuple[str, bytes]) -> Any:
        try:
            return await self._producer.send(
                record.topic, record.value, key=record.key, partition=record.partition, headers=[*record.headers, stamp]
            )
        except (ProducerFenced, InvalidProducerEpoch):
            raise
        except (KafkaError, AssertionError) as error:  # aiokafka asserts that an explicit partition exists
            raise KafkaError(
                f"cannot write to {record.topic}: {type(error).__name__} {error}; does it exist (`uptake topics create`)?"
            ) from error

    async def close(self) -> None:
        """Let go of the producer, whatever state it is in."""
        await let_go(self._producer)
