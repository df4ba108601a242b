"""Stands where `AIOKafkaProducer` stands: the same calls, promises and bad habits, over the simulated network."""

from __future__ import annotations

import asyncio
from typing import Any
from zlib import crc32

from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import RecordMetadata

from tests.sim.broker import Broker, Place
from tests.sim.net import Net

LOG_APPEND_TIME = 1
TRIES = 5
"""Of a produce request; the others are repeated until somebody gives up waiting."""
Waiting = list[tuple[tuple[bytes | None, bytes | None, Any], asyncio.Future[RecordMetadata]]]


class Sender:
    """Like aiokafka's: callers that wait are not told when it dies."""

    def __init__(self, task: asyncio.Future[None]) -> None:
        self.sender_task = task


class SimProducer:
    """One client; belongs to the process that made it."""

    def __init__(
        self,
        broker: Broker,
        net: Net,
        *,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        **_: Any,
    ) -> None:
        self._broker = broker
        self._net = net
        self._name = transactional_id
        self._timeout_s = transaction_timeout_ms / 1000
        self._epoch = -1
        self._sender = Sender(asyncio.get_running_loop().create_future())
        self._pending: dict[Place, Waiting] = {}
        self._added: set[Place] = set()
        self._sequence = 0
        self._open = False
        self._error: Exception | None = None
        self._flushing: asyncio.Task[None] | None = None
        self.closed = False

    async def start(self) -> None:
        """`init_transactions`. Raises where no broker answers."""
        await self._net.connect()
        if self._name is not None:
            _, self._epoch = await self._net.reliably(self._broker.init, self._name, self._timeout_s)

    async def begin_transaction(self) -> None:
        """Nothing is sent yet."""
        await self._pause()
        if self._error is not None:
            raise self._error
        self._open = True
        self._added = set()

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Any = None,
    ) -> asyncio.Future[RecordMetadata]:
        """A future of where it stands, and since when by the broker's clock."""
        assert not (value is None and key is None)
        await self._pause()
        if self._name is not None and not self._open:
            raise IllegalOperation("no transaction")
        if self._error is not None:
            raise self._error
        count = len(self._broker.topics[topic])
        place = (topic, crc32(key or b"") % count if partition is None else partition)
        assert place[1] < count
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        self._pending.setdefault(place, []).append(((key, value, tuple(headers or ())), future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())
        return future

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None:
        """Offsets that count with the commit."""
        plain = {(tp.topic, tp.partition): place.offset for tp, place in offsets.items()}
        await self._said(self._broker.add_offsets, self._name, self._epoch, group, plain)

    async def commit_transaction(self) -> None:
        """Everything written, then the end."""
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait({self._flushing})
        if self._error is not None:
            raise self._error
        self._open = False
        await self._said(lambda: self._broker.end(self._name or "", self._epoch, commit=True))

    async def stop(self) -> None:
        """Delivers what is left, unless the sender is dead. Does not end a transaction."""
        self.closed = True
        if self._flushing is not None and not self._flushing.done():
            await asyncio.wait({self._flushing, self._sender.sender_task}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)

    def die(self) -> None:
        """The sender's task ends with an error; whoever waits, waits."""
        if not self._sender.sender_task.done() and not self.closed:
            self._sender.sender_task.set_exception(KafkaError("planted: the sender died"))
            self._sender.sender_task.exception()
            if self._flushing is not None:
                self._flushing.cancel()

    async def _pause(self) -> None:
        if self._net.loop.random.random() < 0.2:
            await asyncio.sleep(0)

    async def _said(self, function: Any, *arguments: Any) -> None:
        try:
            await self._net.reliably(function, *arguments)
        except KafkaError as error:
            self._error = error
            raise

    async def _flush(self) -> None:
        while self._pending:
            pending, self._pending = self._pending, {}
            new = [place for place in pending if place not in self._added]
            try:
                if self._name is not None and new:
                    await self._net.reliably(self._broker.add, self._name, self._epoch, new)
                    self._added.update(new)
            except KafkaError as error:
                self._fail(error, pending)
                continue
            await asyncio.gather(*(self._produce(place, waiting) for place, waiting in pending.items()))

    async def _produce(self, place: Place, waiting: Waiting) -> None:
        self._sequence += 1
        rows = [row for row, _ in waiting]
        broker, name = self._broker, self._name
        try:
            base, at = await self._net.reliably(
                broker.produce, place, rows, name, self._epoch, self._sequence, tries=TRIES
            )
        except KafkaError as error:
            self._fail(error, {place: waiting})
            return
        for number, (_, future) in enumerate(waiting):
            if not future.done():
                tp = TopicPartition(*place)
                future.set_result(RecordMetadata(*place, tp, base + number, at, LOG_APPEND_TIME, 0))

    def _fail(self, error: KafkaError, pending: dict[Place, Waiting]) -> None:
        self._error = error
        fenced = isinstance(error, ProducerFenced | InvalidProducerEpoch)
        if fenced and self._net.loop.random.random() < 0.3:
            if not self._sender.sender_task.done():
                self._sender.sender_task.set_exception(error)
                self._sender.sender_task.exception()
            return
        for waiting in pending.values():
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
                    future.exception()
