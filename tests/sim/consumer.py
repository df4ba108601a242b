"""Stands where `AIOKafkaConsumer` stands, for the group and for readers of a state. Parses with the real `PartitionBlocks`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import OffsetOutOfRangeError

from tests.sim.broker import Broker
from tests.sim.log import Fetched, OutOfRange
from tests.sim.net import Glitch, Net
from transport.blocks import Block
from transport.fetching import BlockConsumer, Fetching, PartitionBlocks

STORED = 4
"""Most stored batches of one partition in one fetch."""
WAIT_S = 0.25
"""Longest that the broker keeps a fetch that finds nothing."""


class State:
    """A partition's: as aiokafka's `TopicPartitionState`."""

    __slots__ = ("_position", "highwater", "lso", "paused", "timestamp")

    def __init__(self) -> None:
        self._position: int | None = None
        self.highwater: int | None = None
        self.lso: int | None = None
        self.timestamp: int | None = None
        self.paused = False


class Assignment:
    """What is assigned now."""

    def __init__(self, tps: Iterable[TopicPartition]) -> None:
        self.states = {tp: State() for tp in tps}
        self.tps = frozenset(self.states)

    def state_value(self, tp: TopicPartition) -> State:
        """Raises `KeyError` for what is not assigned."""
        return self.states[tp]


class SimConsumer:
    """One client; belongs to the process that made it."""

    seek_block = BlockConsumer.seek_block

    def __init__(self, broker: Broker, net: Net, shared: Fetching, topics: Iterable[str] = (), **_: Any) -> None:
        self.shared = shared
        self._broker = broker
        self._net = net
        self._topics = set(topics)
        self._buffer: dict[TopicPartition, PartitionBlocks] = {}
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=None), fetch_context=_Nothing)
        self._closed = False
        self._fetcher = self
        self._subscriptions = self._subscription
        self._coordinator = SimpleNamespace(generation=-1)
        self._client = SimpleNamespace(fetch_all_metadata=self._metadata, force_metadata_update=self._metadata)

    async def start(self) -> None:
        if not self._topics:
            await self._net.connect()

    async def stop(self) -> None:
        await asyncio.sleep(0)

    async def _metadata(self) -> Any:
        topics = await self._net.reliably(lambda: self._broker.topics)
        return SimpleNamespace(partitions_for_topic=lambda topic: set(range(len(topics.get(topic, ())))))

    # --- assignment and positions -----------------------------------------------------------------------------------

    def subscription(self) -> set[str]:
        return self._topics

    def assignment(self) -> frozenset[TopicPartition]:
        now = self._assigned
        return now.tps if now is not None else frozenset()

    @property
    def _assigned(self) -> Assignment | None:
        found: Assignment | None = self._subscription.subscription.assignment
        return found

    def assign(self, tps: Iterable[TopicPartition]) -> None:
        self._buffer.clear()
        self._subscription.subscription.assignment = Assignment(tps)

    def unassign(self) -> None:
        self._buffer.clear()
        self._subscription.subscription.assignment = None

    def _state(self, tp: TopicPartition) -> State:
        assert self._assigned is not None and tp in self._assigned.tps, f"{tp} is not assigned"
        return self._assigned.state_value(tp)

    def pause(self, *tps: TopicPartition) -> None:
        for tp in tps:
            self._state(tp).paused = True

    def resume(self, *tps: TopicPartition) -> None:
        for tp in tps:
            self._state(tp).paused = False

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._state(tp)._position = offset
        self._buffer.pop(tp, None)

    def highwater(self, tp: TopicPartition) -> int | None:
        return self._state(tp).highwater

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return self._state(tp).timestamp

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = len(self._broker.topics.get(topic, ()))
        return set(range(count)) if count else None

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: bounds[0] for tp, bounds in (await self._bounds(list(tps))).items()}

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: bounds[1] for tp, bounds in (await self._bounds(list(tps))).items()}

    async def _bounds(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        found: dict[TopicPartition, tuple[int, int]] = await self._net.reliably(
            lambda: {tp: self._broker.bounds((tp.topic, tp.partition)) for tp in tps}
        )
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        plain = {(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
        await self._net.reliably(self._broker.commit_offsets, "outside", plain)

    # --- fetching ---------------------------------------------------------------------------------------------------

    async def getmany(self, *tps: TopicPartition, timeout_ms: int = 0) -> dict[TopicPartition, list[Block]]:
        return await self.fetched_records(tps, timeout_ms / 1000)

    async def fetched_records(
        self, tps: Iterable[TopicPartition], timeout: float = 0.0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Block]]:
        """What is there, or comes within `timeout`, of those among `tps` that are assigned, sought and not paused."""
        loop = self._net.loop
        deadline = loop.now + timeout
        wanted = list(tps)
        while True:
            if found := self._take(wanted):
                return found
            assigned = self._assigned
            ask = {
                tp: state._position
                for tp in wanted
                if assigned is not None
                and (state := assigned.states.get(tp)) is not None
                and state._position is not None
                and not state.paused
                and tp not in self._buffer
            }
            if ask:
                await self._ask(assigned, ask)
                if found := self._take(wanted):
                    return found
            if loop.now >= deadline:
                return {}
            await self._wait(list(ask), min(WAIT_S, deadline - loop.now))

    async def _ask(self, assigned: Any, ask: dict[TopicPartition, int]) -> None:
        random = self._net.loop.random
        most = 1 + int(random.random() * STORED)
        cut = random.random() < 0.1

        def answer() -> dict[TopicPartition, Fetched | OutOfRange]:
            answers: dict[TopicPartition, Fetched | OutOfRange] = {}
            for tp, position in ask.items():
                try:
                    if self._topics and self._broker.amnesia:
                        self._broker.amnesia -= 1
                        raise OutOfRange(position)
                    answers[tp] = self._broker.partition((tp.topic, tp.partition)).fetch(position, most, cut)
                except OutOfRange as error:
                    answers[tp] = error
            return answers

        try:
            answers = await self._net.call(answer)
        except Glitch:
            return
        lost = {}
        for tp, got in answers.items():
            state = assigned.states[tp]
            if assigned is not self._assigned or state._position != ask[tp] or tp in self._buffer:
                continue
            if isinstance(got, OutOfRange):
                lost[tp] = ask[tp]
                continue
            state.highwater, state.lso = got.high_watermark, got.stable
            state.timestamp = int(self._net.loop.wall() * 1000)
            if got.raw:
                plain = SimpleNamespace(
                    _tp=tp,
                    _aborted_transactions=got.aborted,
                    next_fetch_offset=ask[tp],
                    _check_crcs=True,
                    _isolation_level=aiokafka_fetcher.READ_COMMITTED,
                )
                self._buffer[tp] = PartitionBlocks(plain, got.raw, got.high_watermark, self.shared)
        if lost:
            raise OffsetOutOfRangeError(lost)

    def _take(self, tps: list[TopicPartition]) -> dict[TopicPartition, list[Block]]:
        found: dict[TopicPartition, list[Block]] = {}
        for tp in tps:
            records = self._buffer.get(tp)
            if records is None:
                continue
            state = self._state(tp)
            if state.paused:
                continue
            del self._buffer[tp]
            if state._position != records.next_fetch_offset:
                continue
            blocks = list(records)
            state._position = records.next_fetch_offset
            if blocks:
                found[tp] = blocks
        return found

    async def _wait(self, tps: list[TopicPartition], seconds: float) -> None:
        loop = self._net.loop
        woken = loop.create_future()
        for tp in tps:
            self._broker.partition((tp.topic, tp.partition)).waiting.append(woken)
        timer = loop.call_later(seconds, lambda: woken.done() or woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()


class _Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass
