"""All runners of one app: which topics belong to which tasks, and who owns what right now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer, TopicPartition
from faust.types import TP

from core.effects import Effect
from core.task import Task, TaskSpec
from transport.cancelled import by_us_alone
from transport.checkpoint import Record, let_go, producer_arguments, records_of, transact
from transport.intake import Gap
from transport.metrics import Metrics
from transport.options import Options
from transport.phases import Phases
from transport.runner import Runner
from transport.surroundings import REAL, Surroundings

if TYPE_CHECKING:
    from transport.consumer import BlockThread

log = logging.getLogger(__name__)


class Runs:
    """The runners, by task group and partition. On one event loop; implements `source.Source` over Faust's consumer."""

    def __init__(self, app: Any, options: Options, metrics: Metrics, around: Surroundings = REAL) -> None:
        self.options = options
        self._app = app
        self._metrics = metrics
        self.around = around
        self._phases = Phases(options.phases)
        self._specs: dict[str, TaskSpec] = {}
        """By topic, with prefix."""
        self._runners: dict[tuple[str, int], Runner] = {}
        self._full: set[TP] = set()
        self._changed = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._delivering: set[TP] = set()

    # --- what wires ask -----------------------------------------------------------------------------------------------

    def register(self, spec: TaskSpec) -> None:
        """Take a spec's topics. A topic belongs to one spec, a group name to one spec."""
        for other in self._specs.values():
            if other.group == spec.group:
                raise ValueError(f"two task groups of {spec.role} are called {spec.group!r}")
        for topic in spec.topics:
            full = self.options.topic(topic)
            if full in self._specs:
                raise ValueError(f"{topic} is read by two task groups of {spec.role}")
            self._specs[full] = spec

    def of(self, topic: str, partition: int) -> Runner | None:
        """The runner of a source partition (topic with prefix), where it is owned."""
        spec = self._specs.get(topic)
        return None if spec is None else self._runners.get((spec.group, partition))

    def of_task(self, task: Task) -> Runner | None:
        """The runner of a task that is still alive."""
        return next((runner for runner in self._runners.values() if runner.task is task), None)

    def all(self) -> list[Runner]:
        """Every runner, by group and partition."""
        return [runner for _, runner in sorted(self._runners.items())]

    # --- what the consumer tells --------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[TP]) -> None:
        """Start a runner for every task group and partition that is owned from now on."""
        self._full.clear()
        groups: dict[tuple[str, int], TaskSpec] = {}
        for tp in partitions:
            spec = self._specs.get(tp.topic)
            if spec is not None:
                groups[spec.group, tp.partition] = spec
        for key, spec in groups.items():
            if key not in self._runners:
                self._runners[key] = Runner(spec, key[1], self.options, self._metrics, self, self.around, self._phases)

    async def revoked(self, partitions: Iterable[TP]) -> None:
        """Final checkpoints of what is owned no more."""
        keys = {(spec.group, tp.partition) for tp in partitions if (spec := self._specs.get(tp.topic)) is not None}
        await self._release(keys)

    async def release_all(self) -> None:
        """Final checkpoints of everything."""
        await self._release(set(self._runners))
        if self._background:
            await asyncio.wait(set(self._background), timeout=2)
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()

    async def _release(self, keys: set[tuple[str, int]]) -> None:
        runners = [runner for key in sorted(keys) if (runner := self._runners.get(key)) is not None]
        await asyncio.gather(*(runner.release() for runner in runners))
        for key in keys:
            self._runners.pop(key, None)

    def fetchable(self) -> set[TP]:
        """The partitions to ask for: sought by a ready task, with room in their channel."""
        return self._delivering - self._full

    async def wait_for_change(self, timeout: float) -> None:
        """Until there may be something to ask for."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    def full(self, tp: TP) -> None:
        """No room in the channel."""
        self._full.add(tp)

    def drained(self, tp: TP) -> None:
        """Room in the channel again."""
        self._full.discard(tp)
        self._changed.set()

    def lost(self, tp: TP, offset: int) -> None:
        """The broker no longer has the offset."""
        runner = self.of(tp.topic, tp.partition)
        if runner is not None:
            # Recovery finds out what is lost, if anything, and says so.
            runner.fail(Gap(f"{tp.topic}/{tp.partition}: the log does not hold offset {offset}"))

    # --- source.Source ------------------------------------------------------------------------------------------------

    @property
    def _thread(self) -> BlockThread:
        thread: BlockThread = self._app.consumer.thread
        return thread

    async def bounds(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """First offset and end of each."""
        return await self._thread.bounds(list(partitions))

    async def partition_count(self, topic: str) -> int:
        """Partitions of a topic, 0 for none."""
        return await self._thread.partition_count(topic)

    async def begin(self, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Seek and deliver."""
        numbers = await self._thread.begin(positions)
        self._delivering.update(TP(tp.topic, tp.partition) for tp in positions)
        self._changed.set()
        return numbers

    def hold(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering. aiokafka is told in the background; what it still brings is not accepted by the runner."""
        tps = [tp for tp in partitions if TP(tp.topic, tp.partition) in self._delivering]
        if not tps:
            return
        self._delivering.difference_update(TP(tp.topic, tp.partition) for tp in tps)
        task = asyncio.ensure_future(self._thread.hold(tps))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def end(self, partition: TopicPartition) -> tuple[int, int] | None:
        """High watermark and when the broker said so."""
        return self._thread.end(partition)

    def held(self, partition: TopicPartition) -> int | None:
        """Where an open transaction holds rows back."""
        return self._thread.held(partition)

    def fetched(self, partition: TopicPartition) -> int:
        """The fetch position."""
        return self._thread.fetched(partition)

    async def commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """For lag tools."""
        await self._thread.commit_offsets(offsets)

    async def produce(self, effects: list[Effect]) -> None:
        """Outputs of tasks without a state topic, by one idempotent producer."""
        records = list(records_of(effects, self.options))
        if not records:
            return
        if self._producer is None:
            producer: AIOKafkaProducer = self.around.producer(**producer_arguments(self.options))
            with by_us_alone():
                await producer.start()
            self._producer = producer
        producer = self._producer
        try:
            with by_us_alone():
                await transact(producer, _written(producer, records), None)  # as long as the producer itself tries
        except Exception:
            # Its sender may be dead, and whoever waits for it next would wait for ever: the next one gets a new producer.
            if self._producer is producer:
                self._producer = None
                task = asyncio.ensure_future(let_go(producer))
                self._background.add(task)
                task.add_done_callback(self._background.discard)
            raise


async def _written(producer: AIOKafkaProducer, records: Iterable[Record]) -> None:
    sent = [
        await producer.send(r.topic, r.value, key=r.key, partition=r.partition, headers=list(r.headers))
        for r in records
    ]
    await asyncio.gather(*sent)
