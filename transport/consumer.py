"""Faust's transport, carrying one message per block of rows. Membership and flow are Faust's; offsets, seeks, commits and
recovery are the runners' (`runs`), so everything Faust does about those is switched off here, and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from time import monotonic
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from transport.blocks import Block
from transport.fetching import BlockConsumer, Fetching, block_consumer
from transport.options import Options
from transport.runs import Runs

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often topics that the broker did not know are asked for again."""
POLL_S = 0.25
"""Longest wait for a fetch, so that newly ready partitions are asked for soon."""


class BlockMessage(ConsumerMessage):
    """A message whose value is a `Block`."""


class BlockSchema(Schema[Any, Any]):
    """Hands the block on as the event's value."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """No key: a block has many."""
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The block itself."""
        return message.value


class BlockListener(driver.ConsumerRebalanceListener):
    """Keeps aiokafka from fetching anything before the runners have sought."""

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Runs in the consumer's thread."""
        consumer = self._thread._ensure_consumer()
        consumer.pause(*assigned)
        await super().on_partitions_assigned(assigned)


class BlockThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread around a `BlockConsumer`."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        conf, options = self.app.conf, self.options
        self._assignor = RangePartitionAssignor
        return block_consumer(
            Fetching.of(options),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=options.instance_id,
            bootstrap_servers=options.servers(),
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=options.fetch_max_wait_ms,
            fetch_min_bytes=options.fetch_min_bytes,
            fetch_max_bytes=options.fetch_bytes,
            max_partition_fetch_bytes=options.partition_fetch_bytes,
            session_timeout_ms=int(options.session_timeout_s * 1000),
            heartbeat_interval_ms=int(options.session_timeout_s * 1000 / 4),
            rebalance_timeout_ms=int(options.rebalance_timeout_s * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 300) * 1000),
            metadata_max_age_ms=60_000,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            retry_backoff_ms=50,
            **options.security.client(),
        )

    @property
    def options(self) -> Options:
        """The role's options."""
        return cast(Runs, self.app.runs).options  # type: ignore[attr-defined]

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        try:
            return await super()._fetch_records(consumer, active_partitions, timeout=timeout, max_records=None)
        except OffsetOutOfRangeError as error:
            return {TP(tp.topic, tp.partition): [offset] for tp, offset in error.args[0].items()}

    async def look_for_topics(self) -> None:
        """Ask the broker again for topics it did not know yet; when they are there the group shares them out."""
        await self.call_thread(self._look_for_topics)

    async def _look_for_topics(self) -> None:
        consumer = self._ensure_consumer()
        if not all(consumer.partitions_for_topic(topic) for topic in consumer.subscription()):
            await consumer._client.force_metadata_update()

    async def touch(self) -> None:
        """Nothing to ask for is no reason to be thrown out of the group (`max_poll_interval`)."""
        await self.call_thread(self._touch)

    async def _touch(self) -> None:
        with self._ensure_consumer()._subscription.fetch_context():
            pass

    async def bounds(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """First offset and end of each. The end is that of committed rows."""
        return await self.call_thread(self._bounds, partitions)  # type: ignore[no-any-return]

    async def _bounds(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        consumer = self._ensure_consumer()
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        return {tp: (first[tp], end[tp]) for tp in partitions}

    async def partition_count(self, topic: str) -> int:
        """Partitions of a topic, 0 for none."""
        return await self.call_thread(self._partition_count, topic)  # type: ignore[no-any-return]

    async def _partition_count(self, topic: str) -> int:
        consumer = self._ensure_consumer()
        if not consumer.partitions_for_topic(topic):
            # Made a moment ago, perhaps: when the client hears of it the group shares it out in a rebalance.
            await consumer._client.force_metadata_update()
        return len(consumer.partitions_for_topic(topic) or ())

    async def begin(self, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Seek and let aiokafka fetch."""
        return await self.call_thread(self._begin, positions)  # type: ignore[no-any-return]

    async def _begin(self, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        consumer = cast(BlockConsumer, self._ensure_consumer())
        numbers = {tp: consumer.seek_block(tp, offset) for tp, offset in positions.items()}
        consumer.resume(*positions)
        return numbers

    async def hold(self, partitions: list[TopicPartition]) -> None:
        """Keep aiokafka from fetching those that are still assigned."""
        await self.call_thread(self._hold, partitions)

    async def _hold(self, partitions: list[TopicPartition]) -> None:
        consumer = self._ensure_consumer()
        still = consumer.assignment().intersection(partitions)
        if still:
            consumer.pause(*still)

    async def commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit for the group."""
        await self.call_thread(self._commit_offsets, offsets)

    async def _commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            await self._ensure_consumer().commit(dict(offsets))
        except KafkaError as error:
            log.info("offsets for lag tools were not committed: %s", error)

    def end(self, partition: TopicPartition) -> tuple[int, int] | None:
        """High watermark and when the broker said so, from the last fetch; readable from any thread."""
        state = self._state(partition)
        if state is None or state.highwater is None or state.timestamp is None:
            return None
        return state.highwater, state.timestamp

    def held(self, partition: TopicPartition) -> int | None:
        """Where reading stands because a transaction is open there; readable from any thread."""
        state = self._state(partition)
        if state is None or state.lso is None or state.highwater is None:
            return None
        return int(state.lso) if self.fetched(partition) == state.lso < state.highwater else None

    def fetched(self, partition: TopicPartition) -> int:
        """The fetch position, 0 where there is none; readable from any thread."""
        state = self._state(partition)
        return int((state._position if state is not None else None) or 0)

    def _state(self, partition: TopicPartition) -> Any:
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None or partition not in assignment.tps:
            return None
        return assignment.state_value(partition)


class BlockFaustConsumer(driver.Consumer):
    """Faust's consumer without its offset book-keeping, commits and seeks."""

    RebalanceListener = BlockListener
    _thread: BlockThread
    _looked = 0.0

    @property
    def runs(self) -> Runs:
        """The app's runners."""
        return cast(Runs, self.app.runs)  # type: ignore[attr-defined]

    def _new_consumer_thread(self) -> BlockThread:
        return BlockThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def thread(self) -> BlockThread:
        """What the runners ask for offsets and seeks."""
        return self._thread

    # --- membership ---------------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Final checkpoints first, then Faust's own steps: its signal would come too late."""
        await self.runs.revoked(revoked)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Faust's steps, then recovery of each partition in the background."""
        await super().on_partitions_assigned(assigned, generation_id)
        for tp in assigned:
            self._read_offset[tp] = None
        self.runs.assigned(assigned)

    async def wait_empty(self) -> None:
        """Shutdown: final checkpoints."""
        await self.runs.release_all()

    # --- flow ---------------------------------------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """The blocks of one fetch. Only partitions whose task is ready and whose channel has room are asked for."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        runs = self.runs
        if monotonic() - self._looked > LOOK_S:
            await self._thread.look_for_topics()
            self._looked = monotonic()
        active = runs.fetchable()
        if not active:
            await self._thread.touch()
            await runs.wait_for_change(POLL_S)
            return
        fetched = await self._thread.getmany(active, min(timeout, POLL_S))
        for tp, blocks in fetched.items():
            for block in blocks:
                # No check of generations: a fetch may return across a rebalance with the first block of the new one, and
                # dropping that would leave a gap. Blocks from before it carry the number of an earlier seek.
                if self.should_stop or not self.flow_active:
                    return
                if isinstance(block, Block):
                    yield TP(tp.topic, tp.partition), self._message(tp, block)
                else:
                    runs.lost(TP(tp.topic, tp.partition), block)

    def _message(self, tp: Any, block: Block) -> BlockMessage:
        at = float(block.timestamps[-1]) / 1000 if len(block) else 0.0
        place = TP(tp.topic, tp.partition)
        # A block from before the last one was sought back to: without this Faust would drop it.
        self._read_offset[place] = None
        return BlockMessage(
            tp.topic,
            tp.partition,
            block.next_offset - 1,
            at,
            0,
            [],
            None,
            cast(Any, block),
            None,
            0,
            0,
            place,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_full(self, tp: TP) -> None:
        """A channel is nearly full: stop asking for its partition."""
        self.runs.full(tp)

    def on_buffer_drop(self, tp: TP) -> None:
        """There is room again."""
        self.runs.drained(tp)

    # --- what the runners do instead ----------------------------------------------------------------------------------

    async def perform_seek(self) -> None:
        """Runners seek to what their checkpoint says, not to committed offsets."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Offsets go along in checkpoints."""
        return False

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Positions come from the fetch, so holes need no book."""

    async def verify_all_partitions_active(self) -> None:
        """Faust would miss its own commits; `KafkaWires.status` tells what is stuck."""


class BlockTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = BlockFaustConsumer
