"""A runner: the life of one task, from assignment to release, as `core.task` promises it.

    starting → recovering → ready ⇄ (committing in the background) → released
                   ▲           │
                   └───────────┘  commit failed or fenced, agent failed: the task object is thrown away

Everything happens on one event loop. A checkpoint never begins while the agent holds a batch, so what is drained and the
positions beside it always belong together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aiokafka import TopicPartition

from core.batch import Batch
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from core.task import Task, TaskSpec
from transport.blocks import Block, Spoiled
from transport.checkpoint import Checkpoint, Committer, Fenced
from transport.metrics import Metrics
from transport.options import Options
from transport.state import POSITIONS, Positions, StateFormatError, StateReader, decode_positions, positions_key

log = logging.getLogger(__name__)

State = Literal["starting", "recovering", "ready", "stuck", "released"]
TICK_S = 1.0
FRESH_MS = 1_500
"""How old the broker's word on a log's end may be to say that the log was read to its end."""
RELEASE_S = 4.0
"""How long a release waits for the agent to finish the batch it holds."""
BACKOFF_S = (0.1, 0.5, 2.0, 5.0, 10.0)
STUCK_AFTER = 3
"""Failed recoveries in a row after which a partition says so."""


class LogLost(Exception):
    """The log starts after, or ends before, the position of the state. Never jumped over."""


class Source(Protocol):
    """What a runner needs of the consumer. Topics with prefix."""

    async def bounds(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """First offset and end (high watermark) of each."""

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has; 0: it does not exist."""

    async def begin(self, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Seek and start delivering; gives the number of each seek."""

    def hold(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop delivering."""

    def end(self, partition: TopicPartition) -> tuple[int, int] | None:
        """High watermark and the wall time (ms) at which the broker said so; None: not yet known."""

    async def commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the group's offsets, for lag tools; failure is only logged."""

    async def produce(self, effects: list[Effect]) -> None:
        """Write Emits and dead letters of tasks that make no checkpoints."""


@dataclass(slots=True)
class Held:
    """What waits for the next checkpoint."""

    effects: list[Effect] = field(default_factory=list)
    rows: int = 0
    outputs: bool = False
    ticked: bool = False

    def add(self, effects: Iterable[Effect]) -> None:
        """Take effects, in order."""
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Emit | DeadLetter):
                self.outputs = True


class Runner:
    """Runs one task. `live` is its whole life; cancel nothing, call `release`."""

    def __init__(self, spec: TaskSpec, partition: int, options: Options, metrics: Metrics, source: Source) -> None:
        self.spec = spec
        self.partition = partition
        self.state: State = "starting"
        self.error = ""
        self.task: Task | None = None
        self.next: dict[str, int] = {}
        """Next offset of each topic (with prefix) after the last finished batch."""
        self._options = options
        self._metrics = metrics
        self._source = source
        self._tps = [TopicPartition(options.topic(topic), partition) for topic in spec.topics]
        self._seeks: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._batch: Batch | None = None
        self._held = Held()
        self._committer: Committer | None = None
        self._commit: asyncio.Task[None] | None = None
        self._began = self._ended = self._ticked = self._offsets_at = 0.0
        self._written: dict[str, int] = {}
        self._count = 0
        self._failure: BaseException | None = None
        self._leaving = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.committed_at: float | None = None
        """Wall time, seconds, of the last checkpoint."""
        self._life = asyncio.ensure_future(self._live())

    # --- what the agent's side calls ----------------------------------------------------------------------------------

    def accept(self, block: Block) -> Batch | None:
        """The block as a batch for the task; None where it is not for this life of the task, or has no rows."""
        topic = block.topic
        if self.state != "ready" or self._leaving or block.seek != self._seeks.get(topic):
            return None
        if block.start != self._expected[topic]:
            # Blocks between were dropped on their way (a queue cleared in a rebalance): go back to where we stand.
            log.info("%s: a gap from %d to %d, seeking back", self, self._expected[topic], block.start)
            self._seeks[topic] = -1
            self.fail(None)
            return None
        self._expected[topic] = block.next_offset
        for spoiled in block.spoiled:
            self._held.add([self._letter(topic, spoiled)])
        if not len(block):
            self.next[topic] = block.next_offset
            self._poke()
            return None
        batch = Batch(
            self._options.name(topic),
            self.partition,
            block.values,
            block.offsets,
            block.timestamps,
            block.next_offset,
            block.keys,
            block.headed,
            max(0, block.end - block.next_offset),
        )
        self._metrics.observe("uptake_batch_rows", len(batch), (batch.topic,))
        self._batch = batch
        self._idle.clear()
        return batch

    def finish(self, batch: Batch, effects: Iterable[Effect]) -> None:
        """The task has worked the batch; its effects wait for the next checkpoint."""
        if batch is not self._batch:
            raise RuntimeError(f"{self}: perform was called for a batch that is not in hand")
        self._held.add(effects)
        self._held.rows += len(batch)
        self.next[self._options.topic(batch.topic)] = batch.next_offset
        self._batch = None
        self._idle.set()
        self._poke()

    def holds(self, batch: Batch) -> bool:
        """Whether the agent still has this batch in hand."""
        return self._batch is batch

    def hold(self, effects: Iterable[Effect]) -> None:
        """Effects that came from no batch."""
        self._held.add(effects)
        self._held.ticked = True
        self._poke()

    async def room(self) -> None:
        """Waits while more rows wait for a checkpoint than memory should hold."""
        while self._held.rows > self._options.checkpoint_backlog_rows and self._commit is not None:
            await asyncio.wait({self._commit})
            await asyncio.sleep(0)

    def fail(self, error: BaseException | None) -> None:
        """Throw the task away and recover it from the log. None: nothing is wrong with it, only its place in the log."""
        self._failure = error or _Again()
        self._batch = None
        self._idle.set()
        self._poke()

    def lost(self, topic: str, offset: int) -> None:
        """The broker has no such offset any more."""
        self.fail(LogLost(f"{topic}/{self.partition}: the log no longer holds offset {offset}"))

    async def release(self) -> None:
        """Make the final checkpoint and let go. Afterwards the partition may be anybody's."""
        self._leaving = True
        self._source.hold(self._tps)
        self._poke()
        await asyncio.wait({self._life})

    def caught_up(self, now: int) -> list[tuple[str, int]]:
        """The (topic without prefix, partition) pairs read to their end, as far as the broker's word is fresh."""
        pairs = []
        for tp in self._tps:
            end = self._source.end(tp)
            if end is not None and now - end[1] <= FRESH_MS and self.next.get(tp.topic, -1) >= end[0]:
                pairs.append((self._options.name(tp.topic), self.partition))
        return pairs

    def lag(self) -> dict[str, int]:
        """Rows behind the position, by topic without prefix, where known."""
        ends = {tp.topic: self._source.end(tp) for tp in self._tps}
        return {
            self._options.name(topic): max(0, end[0] - self.next[topic])
            for topic, end in ends.items()
            if end is not None and topic in self.next
        }

    def __str__(self) -> str:
        return f"{self.spec.role}|{self.spec.group}|{self.partition}"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        failures = 0
        while not self._leaving:
            try:
                await self._recover()
                if self._leaving:
                    break
                failures, self.error, self.state = 0, "", "ready"
                await self._work()
                break
            except LogLost as error:
                # No position is right: only a person can decide what the lost rows were worth.
                self._stuck(error)
            except _Again:
                pass
            except Exception as error:
                failures += 1
                self._failed(error, failures)
            finally:
                await self._discard()
            if not self._leaving and failures:
                await self._pause(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])
            while self.state == "stuck" and failures == 0 and not self._leaving:
                await self._pause(60.0)
        self.state = "released"

    def _stuck(self, error: Exception) -> None:
        self.state, self.error = "stuck", str(error)
        log.error("%s is stuck: %s", self, error)

    def _failed(self, error: Exception, failures: int) -> None:
        self.error = f"{type(error).__name__}: {error}"
        self.state = "stuck" if failures >= STUCK_AFTER or isinstance(error, StateFormatError) else "recovering"
        log.error("%s failed (%d), recovering from the log: %s", self, failures, self.error, exc_info=error)

    async def _discard(self) -> None:
        self._source.hold(self._tps)
        self.task = None
        self._held = Held()
        self._batch = None
        self._idle.set()
        self._failure = None
        if self._commit is not None:
            self._commit.cancel()
            await asyncio.wait({self._commit})
            self._commit = None
        if self._committer is not None:
            await self._committer.close()
            self._committer = None

    async def _recover(self) -> None:
        if self.state != "stuck":
            self.state = "recovering"
        began = time.monotonic()
        self._count = await self._partition_count()
        task = self.spec.make(self.partition)
        found: Mapping[str, int]
        if self.spec.state_topic is None:
            if self.spec.positions is None:
                raise TypeError(f"{self}: a task without a state topic needs `positions`")
            found = await self.spec.positions(self.partition)
        else:
            self._committer = Committer(self._options, self.spec, self.partition)
            await self._committer.start()
            found = await self._load(task, self._options.topic(self.spec.state_topic))
        task.loaded()
        self.next = await self._starting_points(found)
        self._written = dict(self.next)
        self._expected = dict(self.next)
        self.task = task
        now = asyncio.get_running_loop().time()
        self._began = self._ended = self._ticked = now
        if self._leaving:
            return
        seeks = await self._source.begin({tp: self.next[tp.topic] for tp in self._tps})
        self._seeks = {tp.topic: number for tp, number in seeks.items()}
        self._metrics.observe("uptake_recovery_seconds", time.monotonic() - began, (self.spec.role,))

    async def _partition_count(self) -> int:
        counts = {topic: await self._source.partition_count(self._options.topic(topic)) for topic in self.spec.topics}
        missing = [topic for topic, count in counts.items() if not count]
        if missing:
            raise StateFormatError(f"topics {missing} do not exist: run `uptake topics create`")
        if len(set(counts.values())) > 1:
            raise StateFormatError(
                f"topics of one task have different partition counts, {counts}: run `uptake topics resize`"
            )
        return next(iter(counts.values()))

    async def _load(self, task: Task, state_topic: str) -> dict[str, int]:
        mine = positions_key(self.spec.group)
        positions: Positions | None = None
        async with StateReader(
            self._options.bootstrap, state_topic, self.partition, security=self._options.security
        ) as reader:
            async for key, value in reader.records():
                if not key.startswith(POSITIONS):
                    task.load(key, value)
                elif key == mine and value is not None:
                    positions = decode_positions(value)
        if positions is None:
            return {}
        if positions.partitions != self._count:
            raise StateFormatError(
                f"the state was made with {positions.partitions} partitions, the topics have {self._count}: "
                "run `uptake topics resize`"
            )
        return positions.next

    async def _starting_points(self, found: Mapping[str, int]) -> dict[str, int]:
        """Where to go on in each topic; the log's first offset where nothing was read yet."""
        bounds = await self._source.bounds(self._tps)
        points: dict[str, int] = {}
        for tp in self._tps:
            first, end = bounds[tp]
            name = self._options.name(tp.topic)
            position = found.get(name, first)
            if position < first or position > end:
                missing = (position, first) if position < first else (end, position)
                self._metrics.count("uptake_log_range_lost_total", missing[1] - missing[0], (self.spec.role, name))
                raise LogLost(
                    f"{tp.topic}/{tp.partition}: the state stands at offset {position}, the log holds {first} to {end}; "
                    f"rows {missing[0]} to {missing[1] - 1} are lost. Restore the topic, or run `uptake reset` to "
                    "rebuild the state from what is there"
                )
            points[tp.topic] = position
        return points

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._failure is not None:
                raise self._failure
            if self._commit is not None and self._commit.done():
                commit, self._commit = self._commit, None
                commit.result()
            if self._leaving:
                await self._last()
                return
            now = loop.time()
            if self._batch is None:
                if now >= self._tick_at(now):
                    self._tick(now)
                if self._commit is None and now >= self._begin_at():
                    await self._begin(now)
            await self._pause(min(self._tick_at(now), self._next_begin()) - loop.time())

    async def _last(self) -> None:
        """The final checkpoint: of everything finished, and not of a batch the agent could not finish in time."""
        try:
            await asyncio.wait_for(self._idle.wait(), RELEASE_S)
        except TimeoutError:
            log.warning("%s: its batch was not finished in time; the next owner works it again", self)
            return
        if self._failure is not None:
            raise self._failure
        if self._commit is not None:
            await self._commit
            self._commit = None
        await self._begin(asyncio.get_running_loop().time(), last=True)
        if self._commit is not None:
            await self._commit
            self._commit = None

    def _poke(self) -> None:
        self._wake.set()

    async def _pause(self, seconds: float) -> None:
        if self._wake.is_set():
            self._wake.clear()
            await asyncio.sleep(0)
            return
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
        else:
            await asyncio.sleep(0)
        self._wake.clear()

    # --- time ---------------------------------------------------------------------------------------------------------

    def _tick_at(self, now: float) -> float:
        if self._batch is not None:
            return now + TICK_S
        at = self._ticked + TICK_S
        wanted = self.task.wake_at() if self.task is not None else None
        if wanted is not None:
            at = min(at, max(now + wanted / 1000 - time.time(), self._ticked + 0.001))
        return at

    def _tick(self, now: float) -> None:
        assert self.task is not None
        self._ticked = now
        wall = int(time.time() * 1000)
        self._held.add(self.task.tick(wall, self.caught_up(wall)))
        self._held.ticked = True
        for topic, rows in self.lag().items():
            self._metrics.observe("uptake_lag_rows", rows, (self.spec.role, topic, str(self.partition)))

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _begin_at(self) -> float:
        """When the next checkpoint is to begin, the one before being done."""
        held, options = self._held, self._options
        gap = self._ended + options.checkpoint_gap_ms / 1000
        if held.outputs or held.rows >= options.checkpoint_rows:
            return gap
        if held.rows or held.effects or held.ticked:
            return max(gap, self._began + options.checkpoint_interval_ms / 1000)
        if self.next != self._written:
            return max(gap, self._began + TICK_S)
        return float("inf")

    def _next_begin(self) -> float:
        return float("inf") if self._commit is not None or self._batch is not None else self._begin_at()

    async def _begin(self, now: float, *, last: bool = False) -> None:
        """Copy out what changed and send it in the background. Nothing here waits before everything is copied."""
        assert self.task is not None
        held, self._held = self._held, Held()
        self._began = now
        moved = self.next != self._written
        offsets: dict[TopicPartition, int] = {}
        if moved and (last or now - self._offsets_at >= self._options.offsets_interval_ms / 1000):
            offsets = {tp: self.next[tp.topic] for tp in self._tps}
            self._offsets_at = now
        if self._committer is None:
            self._written = dict(self.next)
            self._commit = self._background(self._outside(held.effects, offsets))
            return
        state = self.task.drain()
        if not (state or held.outputs or moved):
            self._measure(held.effects)
            return
        positions = Positions(
            partitions=self._count,
            next={self._options.name(topic): offset for topic, offset in self.next.items()},
            at=int(time.time() * 1000),
        )
        self._written = dict(self.next)
        checkpoint = Checkpoint(state, held.effects, positions, offsets)
        self._commit = self._background(self._inside(self._committer, checkpoint))

    def _background(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._poke())
        return task

    async def _inside(self, committer: Committer, checkpoint: Checkpoint) -> None:
        began, role = time.monotonic(), self.spec.role
        try:
            await committer.commit(checkpoint)
        except Exception as error:
            outcome = "fenced" if isinstance(error, Fenced) else "failed"
            self._metrics.count("uptake_checkpoints_total", 1, (role, outcome))
            raise
        self._ended = asyncio.get_running_loop().time()
        self.committed_at = time.time()
        metrics = self._metrics
        metrics.count("uptake_checkpoints_total", 1, (role, "committed"))
        metrics.observe("uptake_checkpoint_seconds", time.monotonic() - began, (role,))
        metrics.count("uptake_checkpoint_bytes_total", checkpoint.state_bytes, (role,))
        metrics.observe("uptake_checkpoint_last_seconds", self.committed_at, (role, str(self.partition)))
        self._measure(checkpoint.effects)

    async def _outside(self, effects: list[Effect], offsets: Mapping[TopicPartition, int]) -> None:
        """Effects of a task that keeps its state outside Kafka: written, not in a transaction."""
        await self._source.produce(effects)
        self._ended = asyncio.get_running_loop().time()
        self._measure(effects)
        if offsets:
            await self._source.commit_offsets(offsets)

    def _measure(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Count(metric, n, labels):
                    self._metrics.count(metric, n, labels)
                case Observe(metric, value, labels):
                    self._metrics.observe(metric, value, labels)
                case DeadLetter():
                    self._metrics.count("uptake_dead_letters_total", 1, (effect.step, effect.reason))
                case Emit():
                    pass

    def _letter(self, topic: str, spoiled: Spoiled) -> DeadLetter:
        return DeadLetter(
            topic=self._options.name(topic),
            partition=self.partition,
            offset=spoiled.offset,
            step="transport",
            reason=spoiled.reason,
            detail=f"{spoiled.detail}; offsets {spoiled.offset} to {spoiled.next_offset - 1}",
            key=None,
            value=spoiled.stored,
            at=spoiled.timestamp,
        )


class _Again(Exception):
    """Recover without a fault: the task's place in the log was lost, nothing else."""
