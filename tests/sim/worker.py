"""One simulated worker: our transport as it is, and in place of Faust and the client's thread the least that drives it.

Real: `Runs`, `Runner`, `Recovery`, `Committer`, `StateReader`, `Intake`, blocks and framing, `KafkaWires`, the bodies of
`BlockThread` and `BlockFaustConsumer`. Played: the thread hop, Faust's conductor and channel, membership.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from agents.pump import Pump
from agents.rooms import Wires
from core.task import TaskSpec
from tests.sim.broker import Broker
from tests.sim.consumer import SimConsumer
from tests.sim.group import Expelled, Group
from tests.sim.loop import Process, SimLoop
from tests.sim.net import Glitch, Net
from tests.sim.producer import SimProducer
from tests.sim.readmodel import ReadModel
from transport.consumer import BlockFaustConsumer, BlockListener, BlockThread
from transport.fetching import Fetching
from transport.metrics import Unmetered
from transport.options import Options
from transport.runs import Runs
from transport.surroundings import Surroundings
from transport.wires import KafkaWires

HOP_S = 0.0003
GRACE_S = 0.2
"""How long a stop waits for attempts that are in the air."""


class Planted(RuntimeError):
    """An agent was told to fail."""


class SimThread(BlockThread):
    """Faust's consumer thread without a thread: the hop there and back takes a moment."""

    def __init__(self, app: Any, consumer: SimConsumer, loop: SimLoop) -> None:
        self.app = app
        self._mine = consumer
        self._sim = loop

    def _ensure_consumer(self) -> Any:
        return self._mine

    async def call_thread(self, function: Any, *arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(self._sim.random.expovariate(1 / HOP_S))
        result = await function(*arguments, **named)
        await asyncio.sleep(0)
        return result

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:
        tps = [TopicPartition(tp.topic, tp.partition) for tp in sorted(active_partitions or ())]
        return await self.call_thread(self._fetch_records, self._mine, tps, timeout=timeout)


class SimFaust(BlockFaustConsumer):
    """Faust's consumer without Faust: what `BlockFaustConsumer` overrides is its own, what it inherits is played."""

    def __init__(self, app: Any, thread: SimThread) -> None:
        self.app = app
        self._thread = thread
        thread.consumer = self
        self._read_offset = {}
        self.flow_active = True
        self.can_resume_flow = asyncio.Event()

    @property
    def should_stop(self) -> bool:
        return False

    async def wait(self, *things: Any, **_: Any) -> Any:
        await things[0].wait()


class Channel:
    """The channel of one agent: Faust's conductor puts blocks in, flow control may empty it whenever it likes."""

    def __init__(self, faust: SimFaust, most: int) -> None:
        self._faust = faust
        self._most = most
        self._queue: deque[tuple[TP, Any]] = deque()
        self._full: set[TP] = set()
        self._came = asyncio.Event()
        self.dropped = 0
        self.losing = 0
        """So many of the next blocks are dropped on their way: Faust does so while its flow is suspended."""

    def put(self, tp: TP, message: Any) -> None:
        if self.losing:
            self.losing -= 1
            self.dropped += 1
            return
        self._queue.append((tp, message))
        self._came.set()
        if len(self._queue) >= self._most:
            self._full.add(tp)
            self._faust.on_buffer_full(tp)

    def clear(self) -> None:
        self.dropped += len(self._queue)
        self._queue.clear()
        self._drain()

    def _drain(self) -> None:
        if self._full and len(self._queue) <= self._most // 2:
            full, self._full = self._full, set()
            for tp in full:
                self._faust.on_buffer_drop(tp)

    def noack(self) -> Channel:
        return self

    async def events(self) -> AsyncIterator[Any]:
        while True:
            while not self._queue:
                self._came.clear()
                await self._came.wait()
            _, message = self._queue.popleft()
            self._drain()
            yield message


class Worker:
    """One incarnation of a worker's process."""

    def __init__(
        self, name: str, loop: SimLoop, broker: Broker, net: Net, group: Group, options: Options,
        specs: list[TaskSpec], model: ReadModel, pump: Callable[[Wires, Net], Pump | None], told: Callable[[Worker], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.process: Process = loop.process(name)
        self.slow_s = 0.0
        self.failures = 0
        self.producers: list[SimProducer] = []
        self.stopping: asyncio.Event | None = None
        self.stopped = False
        self._loop, self._broker, self._net, self._group = loop, broker, net, group
        self._options, self._specs, self._model, self._told = options, specs, model, told
        self._pump = pump
        self.pump: Pump | None = None
        self.runs: Runs
        self.wires: KafkaWires
        self.channels: list[Channel] = []
        self.crash: BaseException | None = None
        """What ended one of its tasks: never to happen."""
        self._watched(loop.spawn(self.process, self._main()))

    def _watched(self, task: asyncio.Future[None]) -> None:
        def done(task: asyncio.Future[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                self.crash = task.exception()

        task.add_done_callback(done)

    def _producer(self, **arguments: Any) -> SimProducer:
        producer = SimProducer(self._broker, self._net, **arguments)
        self.producers.append(producer)
        return producer

    def _reader(self, shared: Fetching, **arguments: Any) -> SimConsumer:
        return SimConsumer(self._broker, self._net, shared, **arguments)

    async def _main(self) -> None:
        loop = self._loop
        self.stopping = asyncio.Event()
        # The next number, looked at and not used up: a seed's schedule is the same whoever gives others their turns.
        peek = Random()
        peek.setstate(loop.random.getstate())
        turn_s = 0.0 if peek.random() < 0.2 else 1.0  # the clock stands still while a task works
        around = Surroundings(self._producer, self._reader, loop.wall, loop.time, turn_s)
        app: Any = SimpleNamespace(consumer_generation_id=0)
        metrics = Unmetered()
        app.runs = self.runs = Runs(app, self._options, metrics, around)
        topics = [self._options.topic(topic) for spec in self._specs for topic in spec.topics]
        client = SimConsumer(self._broker, self._net, Fetching.of(self._options), topics)
        await client.start()
        thread = SimThread(app, client, loop)
        app.consumer = self.faust = SimFaust(app, thread)
        self.wires = KafkaWires(app, self._options, metrics)
        route: dict[str, Channel] = {}
        for spec in self._specs:
            self.runs.register(spec)
            channel = Channel(self.faust, self._options.queued_batches)
            self.channels.append(channel)
            route |= {self._options.topic(topic): channel for topic in spec.topics}
            self._watched(asyncio.ensure_future(self._agent(spec, channel)))
        self._watched(asyncio.ensure_future(self._fetch(route)))
        self.pump = self._pump(self.wires, self._net)
        if self.pump is not None:
            self._watched(asyncio.ensure_future(self.pump.run()))
        await self._member(client, BlockListener(thread), topics)

    # --- what Faust does ----------------------------------------------------------------------------------------------

    async def _fetch(self, route: dict[str, Channel]) -> None:
        while True:
            async for tp, message in self.faust.getmany(timeout=1.0):
                self.fetched(message.value)
                if self.faust.flow_active:
                    route[tp.topic].put(tp, message)
            await asyncio.sleep(0)

    def fetched(self, block: Any) -> None:
        """Seen by mutations of the transport that keep their books by what was read."""
        runner = self.runs.of(block.topic, block.partition)
        look = getattr(runner._intake, "read", None) if runner is not None else None
        if look is not None:
            look(block)

    async def _agent(self, spec: TaskSpec, channel: Channel) -> None:
        wires, random = self.wires, self._loop.random
        while True:
            batches = wires.batches(channel)
            try:
                async for task, batch in batches:
                    if self.slow_s and random.random() < 0.3:
                        await asyncio.sleep(self.slow_s)
                    if self.failures:
                        self.failures -= 1
                        raise Planted
                    if spec.state_topic is None:
                        await wires.set_aside(task, self._model.refused(batch))
                        await self._model.write(self._net, batch)
                    await wires.work(task, batch)
                    if spec.state_topic is None and random.random() < 0.6:
                        wires.hold(task, self._model.told(batch))
            except (Planted, KafkaError):
                await batches.aclose()  # type: ignore[attr-defined]

    async def _member(self, client: SimConsumer, listener: BlockListener, topics: list[str]) -> None:
        """Membership, as aiokafka's coordinator and Faust's app play it."""
        loop, group, faust = self._loop, self._group, self.faust
        assert self.stopping is not None
        beat = self._options.session_timeout_s / 4
        while not self.stopping.is_set():
            future = await self._net.reliably(group.join, self.name)
            generation, mine = await future
            client.assign(TopicPartition(topic, n) for topic in topics for n in mine)
            self._assigned(client, generation)
            assigned = [TP(topic, n) for topic in topics for n in mine]
            client.pause(*client.assignment())
            faust._read_offset = {}
            await self._resume(loop)
            for tp in assigned:
                faust._read_offset[tp] = None
            self.runs.assigned(assigned)
            while not self.stopping.is_set():
                try:
                    async with asyncio.timeout(beat):
                        await self.stopping.wait()
                except TimeoutError:
                    pass
                try:
                    if await self._net.call(group.heartbeat, self.name, generation):
                        break
                except Glitch:
                    continue
                except Expelled:
                    break
            if self.stopping.is_set():
                if self.pump is not None:
                    await self.pump.stop(GRACE_S)
                await faust.wait_empty()
                await self._net.reliably(group.leave, self.name)
                client.unassign()
                break
            # As `BlockFaustConsumer.on_partitions_revoked`: final checkpoints first, then Faust stops and clears its flow.
            await self.runs.revoked(assigned)
            faust.flow_active = False
            faust.can_resume_flow.clear()
            for channel in self.channels:
                channel.clear()
            client.unassign()
        self.stopped = True
        self._told(self)

    def _assigned(self, client: SimConsumer, generation: int) -> None:
        client._coordinator.generation = generation
        self.faust.app.consumer_generation_id = generation

    async def _resume(self, loop: SimLoop) -> None:
        """Faust resumes the flow, and clears its channels then, once its own (empty) recovery is over: some time later."""

        def resume() -> None:
            for channel in self.channels:
                channel.clear()
            self.faust.flow_active = True
            self.faust.can_resume_flow.set()

        if loop.random.random() < 0.5:
            await asyncio.sleep(loop.random.expovariate(1 / HOP_S))
        loop.call_later(loop.random.expovariate(1 / 0.002), resume)


def stragglers(workers: Iterable[Worker], ends: Mapping[tuple[str, int], int]) -> str:
    """Which runners are not done, for the report of a run that does not come to its end."""
    found = []
    for worker in workers:
        for runner in worker.runs.all() if hasattr(worker, "runs") else ():
            behind = {
                topic: (offset, ends.get((topic, runner.partition)))
                for topic, offset in runner.next.items()
                if offset != ends.get((topic, runner.partition))
            }
            if behind or runner.state != "ready":
                found.append(f"{worker.name} {runner} {runner.state} {behind} {runner.error}".strip())
    return "; ".join(found) or "every position is at its end"
