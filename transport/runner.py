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
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal

from aiokafka import TopicPartition

from core.batch import Batch
from core.effects import DeadLetter, Effect
from core.task import Task, TaskSpec
from transport.blocks import Block
from transport.cancelled import by_us_alone
from transport.checkpoint import Checkpoint, Committer, Fenced
from transport.feed import Feed, Hunted, Poisoned
from transport.hanging import OpenTransactions
from transport.intake import Gap, Intake, measure
from transport.metrics import Metrics
from transport.options import Options
from transport.pace import NEVER, Pace
from transport.phases import Mark, Phase, Phases
from transport.recovery import LogLost, Recovery
from transport.source import Source
from transport.state import Positions, StateFormatError
from transport.surroundings import REAL, Surroundings

log = logging.getLogger(__name__)

State = Literal["starting", "recovering", "ready", "stuck", "released"]
TICK_S = 1.0
FRESH_MS = 1_500
"""How old the broker's word on a log's end may be to say that the log was read to its end."""
RELEASE_S = 4.0
"""How long a release waits for the agent to finish the batch it holds."""
LAST_S = 8.0
"""How long the final checkpoint may take; a broker that is away then makes the next owner work those rows again."""
BACKOFF_S = (0.1, 0.5, 2.0, 5.0, 10.0)
STUCK_AFTER = 3
"""Failed recoveries in a row after which a partition says so."""
ASTRAY_S = 30.0
"""How long blocks that were handed out may be on their way before they are taken for lost."""
MOST_FENCES = 5
"""Times that another producer may take an owned partition over before it is left to him."""


class Runner:
    """Runs one task. It lives from its making until `release`."""

    def __init__(
        self,
        spec: TaskSpec,
        partition: int,
        options: Options,
        metrics: Metrics,
        source: Source,
        around: Surroundings = REAL,
        phases: Phases | None = None,
    ) -> None:
        self.spec = spec
        self.partition = partition
        self.state: State = "starting"
        self.error = ""
        self.task: Task | None = None
        """The recovered task; None while there is none."""
        self.committed_at: float | None = None
        """Wall time, seconds, of the last checkpoint."""
        self._options = options
        self._metrics = metrics
        self._source = source
        self._around = around
        self._mark: Mark = (phases or Phases(None)).of(str(self))
        self._mark.set(Phase.STARTING)
        self._tps = [TopicPartition(options.topic(topic), partition) for topic in spec.topics]
        self._intake = Intake(partition, options, {})
        self._committer: Committer | None = None
        self._commit: asyncio.Task[None] | None = None
        self._written: dict[str, int] = {}
        """Positions of the last checkpoint begun."""
        self._told: dict[str, int] = {}
        """Positions that the group's offsets were last set to; a later checkpoint makes up for what the interval held back."""
        self._count = self._number = 0
        """Partitions of the topics; the last checkpoint begun."""
        self._pace = Pace(options, 0.0)
        self._ticked = self._offsets_at = 0.0
        self._waiting: dict[str, int] = {}
        self._waiting_since = 0.0
        self._open = OpenTransactions(spec.role, self._tps, options, metrics, source)
        self._fences = self._failures = 0
        """In a row: a checkpoint that moves the position ends the row."""
        self._failure: Exception | None = None
        self._feed = Feed(str(self), spec, partition, options, metrics, self.fail)
        self._leaving = False
        self._left = asyncio.Event()
        """Set with `_leaving`, for whoever must be interrupted."""
        self._wake = asyncio.Event()
        self._life = asyncio.ensure_future(self._live())
        self._life.add_done_callback(self._died)

    # --- what the agent's side calls ----------------------------------------------------------------------------------

    def accept(self, block: Block) -> bool:
        """Whether the block is for this life of the task and has rows; `batch` then hands them out."""
        if not self._working:
            return False
        try:
            taken = self._intake.accept(block)
        except Gap as gap:
            self.fail(gap)
            return False
        if not taken:
            self._wake.set()
        return taken

    def batch(self) -> Batch | None:
        """The next rows of the block to be worked, nearly always all of it; None where none are left."""
        while self._working and self.task is not None and self._intake.block is not None:
            batch = self._feed.next(self._intake, self.task)
            if batch is not None:
                return batch
            self._wake.set()
        return None

    def step(self, task: Task, batch: Batch) -> list[Effect] | None:
        """What the task makes of the batch. None where it raised: its state is thrown away, and the rows come again, in
        pieces, until those that raise are found (`transport.feed`).
        """
        return self._feed.step(task, batch)

    async def work(self, task: Task, batch: Batch) -> list[Effect] | None:
        """`step`, in turns with what else the event loop has to do. None, too, where the batch was taken from it meanwhile."""
        return await self._feed.work(task, batch, lambda: self.holds(batch), self._around.turn_s)

    @property
    def _working(self) -> bool:
        return self.state == "ready" and not self._leaving and self._failure is None

    def holds(self, batch: Batch) -> bool:
        """Whether the agent still has this batch in hand."""
        return self._intake.holds(batch)

    def left(self, block: Block) -> bool:
        """Whether rows of the block wait to be worked in this life of the task."""
        return self._working and self._intake.block is block

    def finish(self, batch: Batch, effects: Iterable[Effect]) -> None:
        """The task has worked the batch; its effects wait for the next checkpoint."""
        self._intake.finish(batch, effects)
        self._wake.set()

    def hold(self, effects: Iterable[Effect]) -> None:
        """Effects that came from no batch."""
        self._intake.held.add(effects)
        self._intake.held.touched = True
        self._wake.set()

    async def set_aside(self, letters: Sequence[DeadLetter]) -> None:
        """Write dead letters now, not with a checkpoint. For tasks that keep their state outside Kafka: their agent moves the
        position itself, and a crash before the checkpoint would lose the letter of a row that is behind it.
        """
        await self._source.produce([*letters])
        measure(letters, self._metrics)

    async def set_spoiled_aside(self, block: Block) -> None:
        """The same for what cannot be read of a block; fails the task where it cannot be written."""
        if self.spec.state_topic is None and (letters := self._intake.letters(block)):
            try:
                await self.set_aside(letters)
            except Exception as error:
                self.fail(error)
            else:
                block.spoiled.clear()

    async def room(self) -> None:
        """Waits while more rows wait for a checkpoint than memory should hold."""
        while self._intake.held.rows > self._options.checkpoint_backlog_rows and self._commit is not None:
            await asyncio.wait({self._commit})
            await asyncio.sleep(0)

    def fail(self, error: Exception) -> None:
        """Throw the task away and recover it from the log."""
        self._failure = self._failure or error
        self._wake.set()

    async def release(self) -> None:
        """Make the final checkpoint and let go. Afterwards the partition may be anybody's."""
        self._leaving = True
        self._left.set()
        self._source.hold(self._tps)
        self._wake.set()
        await asyncio.wait({self._life})

    @property
    def next(self) -> Mapping[str, int]:
        """Next offset of each topic, with prefix, after the last finished batch."""
        return self._intake.next

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
        while not self._leaving:
            pause = 0.0
            try:
                with by_us_alone():
                    if await self._recovered():
                        self.error, self.state = "", "ready"
                        self._mark.set(Phase.WORKING)
                        await self._work()
            except Gap as error:
                log.warning("%s: %s; seeking again", self, error)
                pause = BACKOFF_S[0]
            except LogLost as error:
                # No position is right: only a person can decide what the lost rows were worth.
                pause = self._stuck(error)
            except Fenced as error:
                pause = self._fenced(error)
            except Hunted as error:
                self.state, self.error = "recovering", str(error)
            except Poisoned as error:
                pause = self._stuck(error)
            except Exception as error:
                pause = self._failed(error)
            finally:
                await self._discard()
            self._mark.set(Phase.PAUSING)
            await self._rest(pause)
        self.state = "released"
        self._mark.set(Phase.GONE)
        for topic in self.spec.topics:  # what waits there is the next owner's to tell
            self._metrics.observe("uptake_lag_rows", 0, (self.spec.role, topic, str(self.partition)))

    def _died(self, life: asyncio.Future[None]) -> None:
        error = None if life.cancelled() else life.exception()
        if error is not None:
            self.state, self.error = "stuck", f"{type(error).__name__}: {error}; restart the worker"
            log.critical("%s died: %s", self, error, exc_info=error)

    def _stuck(self, error: Exception) -> float:
        self.state, self.error = "stuck", str(error)
        log.error("%s is stuck: %s", self, error)
        return NEVER

    def _fenced(self, error: Fenced) -> float:
        """Somebody took the partition over. If that is right, the group says so soon; taking it back would fence him."""
        self._fences += 1
        if self._fences >= MOST_FENCES:
            return self._stuck(
                Fenced(
                    f"another process takes {self} over again and again: is a second deployment using the prefix "
                    f"{self._options.prefix!r} on this broker?"
                )
            )
        self.state, self.error = "recovering", f"fenced: {error}"
        log.warning("%s: fenced (%d), what it held is thrown away", self, self._fences)
        return self._options.session_timeout_s / 2

    def _failed(self, error: Exception) -> float:
        self._failures = failures = self._failures + 1
        self.error = f"{type(error).__name__}: {error}"
        self.state = "stuck" if failures >= STUCK_AFTER or isinstance(error, StateFormatError) else "recovering"
        told = None if isinstance(error, StateFormatError) else error  # says all there is to know
        log.error("%s failed (%d), recovering from the log: %s", self, failures, self.error, exc_info=told)
        return BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]

    async def _discard(self) -> None:
        self._source.hold(self._tps)
        self.task = None
        self._failure = None
        self._intake = Intake(self.partition, self._options, self._intake.next)
        if self._commit is not None:
            self._commit.cancel()
            await asyncio.wait({self._commit})
            self._commit = None
        if self._committer is not None:
            await self._committer.close()
            self._committer = None

    async def _recovered(self) -> bool:
        """Recover, unless the partition is taken away meanwhile: its next owner waits for that, and nothing was written yet."""
        recovering, leaving = asyncio.ensure_future(self._recover()), asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait({recovering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            interrupted = recovering.cancel()
        if interrupted:
            await asyncio.wait({recovering})
            return False
        recovering.result()
        return True

    async def _recover(self) -> None:
        if self.state != "stuck":
            self.state = "recovering"
        began = self._around.monotonic()
        if self.spec.state_topic is not None:
            self._committer = Committer(self._options, self.spec, self.partition, self._around, self._mark)
        recovery = Recovery(
            self.spec, self.partition, self._options, self._metrics, self._source, self._around, self._mark
        )
        recovered = await recovery.run(self._committer)
        self._intake = Intake(self.partition, self._options, recovered.next)
        self._written, self._told = dict(recovered.next), {}
        self._count, self._number = recovered.partitions, recovered.number
        self._ticked = asyncio.get_running_loop().time()
        self._pace = Pace(self._options, self._ticked)
        self._waiting = {}  # what comes again has its own time to come
        self.task = recovered.task
        if not self._leaving:
            numbers = await self._source.begin({tp: recovered.next[tp.topic] for tp in self._tps})
            self._intake.sought({tp.topic: number for tp, number in numbers.items()})
            self._metrics.observe("uptake_recovery_seconds", self._around.monotonic() - began, (self.spec.role,))

    async def _work(self) -> None:
        """Ticks and checkpoints, until it is released or something fails."""
        loop = asyncio.get_running_loop()
        while True:
            if self._failure is not None:
                raise self._failure
            if self._commit is not None and self._commit.done():
                commit, self._commit = self._commit, None
                commit.result()
            if self._leaving:
                return await self._last()
            wait = TICK_S
            if self._intake.idle.is_set():
                if loop.time() >= self._tick_at():
                    self._tick(loop.time())
                if self._commit is None and loop.time() >= self._begin_at():
                    self._begin(loop.time())
                begin = self._begin_at() if self._commit is None else NEVER
                wait = min(self._tick_at(), begin) - loop.time()
            await self._nap(wait)

    async def _last(self) -> None:
        """The final checkpoint: of everything finished, and not of a batch the agent could not finish in time."""
        try:
            await asyncio.wait_for(self._intake.idle.wait(), RELEASE_S)
        except TimeoutError:
            log.warning("%s: its batch was not finished in time; the next owner works it again", self)
            return
        if self._failure is not None:
            raise self._failure
        async with asyncio.timeout(LAST_S):
            await self._settled()
            self._begin(asyncio.get_running_loop().time(), last=True)
            await self._settled()

    async def _settled(self) -> None:
        if self._commit is not None:
            await self._commit
            self._commit = None

    async def _nap(self, seconds: float) -> None:
        """Sleep, but no longer than until something happens."""
        if not self._wake.is_set() and seconds > 0:
            try:
                async with asyncio.timeout(None if seconds == NEVER else seconds):
                    await self._wake.wait()
            except TimeoutError:
                return
        else:
            await asyncio.sleep(0)
        self._wake.clear()

    async def _rest(self, seconds: float) -> None:
        """Sleep between two lives; only the release ends it early."""
        deadline = self._around.monotonic() + seconds
        while not self._leaving and (left := deadline - self._around.monotonic()) > 0:
            await self._nap(left)

    # --- ticks --------------------------------------------------------------------------------------------------------

    def _tick_at(self) -> float:
        at = self._ticked + TICK_S
        wanted = self.task.wake_at() if self.task is not None else None
        if wanted is not None:
            soon = asyncio.get_running_loop().time() + wanted / 1000 - self._around.wall()
            at = min(at, max(soon, self._ticked + 0.001))
        return at

    def _tick(self, now: float) -> None:
        assert self.task is not None
        self._ticked = now
        wall = int(self._around.wall() * 1000)
        self._intake.held.add(self.task.tick(wall, self.caught_up(wall)))
        self._intake.held.ticked = True
        self._look_for_strays(now)
        self._open.look(now)
        for topic, rows in self.lag().items():
            self._metrics.observe("uptake_lag_rows", rows, (self.spec.role, topic, str(self.partition)))

    def _look_for_strays(self, now: float) -> None:
        """A block dropped on its way is noticed when the next one comes; where no next one comes, here."""
        waiting = {tp.topic: self._intake.expected[tp.topic] for tp in self._tps
                   if self._source.fetched(tp) > self._intake.expected[tp.topic]}  # fmt: skip
        if not waiting or waiting != self._waiting:
            self._waiting, self._waiting_since = waiting, now
        elif now - self._waiting_since > ASTRAY_S:
            self.fail(Gap(f"fetched but never arrived, from offset on: {waiting}"))

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _begin_at(self) -> float:
        return self._pace.next_at(self._intake.held, self.next != self._written)

    def _begin(self, now: float, *, last: bool = False) -> None:
        """Copy out what changed, in one turn of the event loop, and send it in the background."""
        assert self.task is not None
        held = self._intake.take()
        self._pace.begun(now)
        moved = self.next != self._written
        self._written = dict(self.next)
        offsets: dict[TopicPartition, int] = {}
        due = last or now - self._offsets_at >= self._options.offsets_interval_ms / 1000
        if due and self.next != self._told:
            offsets = {tp: self.next[tp.topic] for tp in self._tps}
            self._offsets_at, self._told = now, dict(self.next)
        if self._committer is None:
            self._send(self._outside(held.effects, offsets, moved))
            return
        state = self.task.drain()
        if not (state or held.outputs or moved or offsets):
            measure(held.effects, self._metrics)
            return
        self._number += 1
        positions = Positions(
            partitions=self._count,
            number=self._number,
            state=self.spec.state_format,
            next={self._options.name(topic): offset for topic, offset in self.next.items()},
            at=int(self._around.wall() * 1000),
        )
        self._send(self._inside(self._committer, Checkpoint(state, held.effects, positions, offsets), moved))

    def _send(self, work: Coroutine[Any, Any, None]) -> None:
        self._commit = asyncio.ensure_future(work)
        self._commit.add_done_callback(lambda _: self._wake.set())

    async def _inside(self, committer: Committer, checkpoint: Checkpoint, moved: bool) -> None:
        began, role, metrics = self._around.monotonic(), self.spec.role, self._metrics
        try:
            ahead = await committer.commit(checkpoint)
        except Exception as error:
            metrics.count("uptake_checkpoints_total", 1, (role, "fenced" if isinstance(error, Fenced) else "failed"))
            raise
        self._done(moved)
        self._feed.settled({self._options.topic(name): at for name, at in checkpoint.positions.next.items()})
        self.committed_at = self._around.wall()
        if ahead is not None:
            metrics.observe("uptake_clock_ahead_seconds", ahead, (role,))
        metrics.count("uptake_checkpoints_total", 1, (role, "committed"))
        metrics.observe("uptake_checkpoint_seconds", self._around.monotonic() - began, (role,))
        metrics.count("uptake_checkpoint_bytes_total", checkpoint.state_bytes, (role,))
        metrics.observe("uptake_checkpoint_last_seconds", self.committed_at, (role, str(self.partition)))
        measure(checkpoint.effects, metrics)

    async def _outside(self, effects: list[Effect], offsets: Mapping[TopicPartition, int], moved: bool) -> None:
        """Effects of a task that keeps its state outside Kafka: written, not in a transaction."""
        written = dict(self._written)
        await self._source.produce(effects)
        self._done(moved)
        self._feed.settled(written)
        measure(effects, self._metrics)
        if offsets:
            await self._source.commit_offsets(offsets)

    def _done(self, moved: bool) -> None:
        self._pace.done(asyncio.get_running_loop().time())
        if moved:
            self._failures = self._fences = 0
