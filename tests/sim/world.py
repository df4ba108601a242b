"""One run of a schedule: a broker, some workers, what is done to them; then peace, and the verdict."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.sim import readmodel
from tests.sim.broker import Broker
from tests.sim.group import Group
from tests.sim.loop import SimLoop, Stalled
from tests.sim.net import Net
from tests.sim.points import POINTS, Point, roles, trap, waiting
from tests.sim.scenario import Scenario
from tests.sim.schedule import Action, Schedule
from tests.sim.summing import Summing
from tests.sim.upstream import Upstream
from tests.sim.verdict import differences, settled
from tests.sim.worker import Worker, stragglers
from transport.options import Options
from transport.runner import ASTRAY_S

SESSION_S = 1.5
PEACE_S = 10 * ASTRAY_S
"""Virtual seconds after the last action within which everything must be done: three blocks of each partition may be lost in a
row (one on its way, and two that `clear` still loses), a loss is noticed only after so long, and what one task writes after
the last of its own another may lose three times again.
"""
STEPS = 150_000
LOOK_S = 0.1
ROLES = ("decide", "orchestrate", "deliver")
"""Roles whose own tasks are run; others are played by a task that sums."""
OPTIONS = Options(
    bootstrap="nowhere:1",
    role="sim",
    data_dir=Path(),
    prefix="p.",
    session_timeout_s=SESSION_S,
    rebalance_timeout_s=6.0,
    batch_rows=4,
    queued_batches=3,
    checkpoint_rows=6,
    checkpoint_backlog_rows=12,
    checkpoint_interval_ms=100,
    offsets_interval_ms=300,
    transaction_timeout_ms=3_000,
)


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    schedule: Schedule
    differences: list[str] = field(default_factory=list)
    """Empty: everything equals the fold, once, and nothing stalled."""
    points: Counter[Point] = field(default_factory=Counter)
    """Crash points at which somebody was killed or frozen."""
    by_role: dict[str, Counter[Point]] = field(default_factory=lambda: {role: Counter() for role in ROLES})
    """Those of them that a role's own task stood at."""
    steps: int = 0
    virtual_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    """What happened, for those who want to know that it did."""


class World:
    """The cluster of one run."""

    def __init__(self, schedule: Schedule, scenario: Scenario) -> None:
        self.schedule = schedule
        self.scenario = scenario
        self.loop = SimLoop(Random(schedule.seed))
        self.outcome = Outcome(schedule)
        count = schedule.partitions
        names = [*scenario.topics, *scenario.outputs, "in.c", "told", "dead-letters", "state.sim"]
        first, *more = scenario.specs(count)
        names += [spec.state_topic for spec in more]
        self.broker = Broker(self.loop, {f"p.{name}": count for name in names})
        self.net = Net(self.loop)
        self.group = Group(self.loop, count, SESSION_S, OPTIONS.rebalance_timeout_s)
        self.model = readmodel.ReadModel(self.net)
        self.specs = [first, *more] + ([readmodel.spec(self.model)] if schedule.outside else [])
        self.upstream = Upstream(self.loop, self.broker, scenario, count, schedule.outside)
        self.derived = [(f"p.{topic}", n) for spec in more for topic in spec.topics for n in range(count)]
        """What tasks read that other tasks write."""
        self.slots: list[Worker | None] = [None] * schedule.workers
        self.graves: list[Worker] = []
        self._births = 0

    async def live(self) -> None:
        """The schedule, then peace until nothing is left to do."""
        for slot in range(len(self.slots)):
            self._start(slot)
        for action in self.schedule.actions:
            await asyncio.sleep(max(0.0, action.at - self.loop.now))
            self._do(action)
        self._make_peace()
        peace = self.loop.now
        while not settled(self):
            if self.loop.now - peace > PEACE_S:
                ends = {place: self.broker.partition(place).end for place in self.upstream.places}
                raise Stalled(f"not done {PEACE_S:.0f} s after the last action: {stragglers(self.workers(), ends)}")
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(0.3)

    def workers(self) -> list[Worker]:
        """Those that are alive."""
        return [worker for worker in self.slots if worker is not None]

    # --- workers ------------------------------------------------------------------------------------------------------

    def _start(self, slot: int) -> None:
        if self.slots[slot] is not None:
            return
        self._births += 1
        self.slots[slot] = Worker(
            f"w{slot}-{self._births}", self.loop, self.broker, self.net, self.group, OPTIONS, self.specs, self.model,
            self.scenario.pump, lambda worker: self._left(slot, worker),
        )  # fmt: skip

    def _left(self, slot: int, worker: Worker) -> None:
        self._gone(slot, worker)
        self.loop.at_broker(0.5, lambda: self._start(slot))

    def _gone(self, slot: int, worker: Worker) -> None:
        self.loop.kill(worker.process)
        self.graves.append(worker)
        if self.slots[slot] is worker:
            self.slots[slot] = None

    def _kill(self, slot: int, down_s: float) -> None:
        worker = self.slots[slot]
        if worker is None:
            return
        self._note(worker)
        self._gone(slot, worker)
        self.outcome.counts["kills"] += 1
        self.loop.at_broker(down_s, lambda: self._start(slot))

    def _freeze(self, slot: int, span: float) -> None:
        worker = self.slots[slot]
        if worker is None or worker.process.frozen:
            return
        self._note(worker)
        process = worker.process
        process.frozen = True
        self.outcome.counts["zombies" if span > SESSION_S else "pauses"] += 1

        def thaw() -> None:
            process.frozen = False

        self.loop.at_broker(span, thaw)

    def _note(self, worker: Worker) -> None:
        if worker.pump is not None and worker.pump.flying:
            self.outcome.counts["attempts cut off"] += worker.pump.flying
        for task in worker.process.tasks:
            if not task.done():
                found = list(waiting(task))
                self.outcome.points.update(found)
                if found and (role := min(roles(task), default="")) in self.outcome.by_role:
                    self.outcome.by_role[role].update(found)

    # --- actions ------------------------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        loop, net = self.loop, self.net
        slot = action.who % len(self.slots)
        worker = self.slots[slot]
        self.outcome.counts[action.kind] += 1
        match action.kind:
            case "rows" | "commit" | "abort" | "hang" | "holes" | "spoiled":
                self.upstream.write(action)
                for place in self.upstream.places:
                    row = self.scenario.beside(place[0].removeprefix("p."))
                    if row is not None:
                        self.broker.partition(place).append([(b"m", row, ())], self.broker.now_ms())
            case "kill":
                self._kill(slot, action.span)
            case "freeze":
                self._freeze(slot, action.span)
            case "stop":
                if worker is not None and worker.stopping is not None:
                    worker.stopping.set()
            case "kill_at" | "freeze_at":
                self._trap(slot, action)
            case "rough":
                net.rough, net.rough_until = min(0.95, action.size / 100), loop.now + action.span
            case "refused":
                net.refused_until = loop.now + action.span
            case "stale":
                self.broker.stale_until = loop.now + action.span
                self.group.rebalance()  # somebody has to ask
            case "out_of_range":
                self.broker.amnesia = 1 + action.size % 2
            case "rebalance":
                self.group.rebalance()
            case "compact":
                place = ("p.state.sim", action.who % self.schedule.partitions)
                self.broker.partition(place).compact(bool(action.size & 1))
            case "agent_fails" if worker is not None:
                worker.failures += 1 + action.size % 3
            case "agent_slow" if worker is not None:
                worker.slow_s = action.span
            case "sender_dies" if worker is not None:
                for producer in worker.producers:
                    producer.die()
            case "clear" if worker is not None:
                for channel in worker.channels:
                    channel.clear()
                    channel.losing = 1 + action.size % 2

    def _trap(self, slot: int, action: Action) -> None:
        worker = self.slots[slot]
        if worker is None:
            return
        process = worker.process

        def spring() -> None:
            process.watch = None
            if action.kind == "kill_at":
                self._kill(slot, action.span)
            else:
                self._freeze(slot, action.span)

        process.watch = trap(POINTS[action.size % len(POINTS)], action.times, spring)

    def _make_peace(self) -> None:
        self.net.rough_until = self.net.refused_until = 0.0
        self.broker.stale_until = 0.0
        self.broker.amnesia = 0
        for worker in self.workers():
            worker.slow_s = 0.0
            worker.failures = 0


def run(schedule: Schedule, scenario: Scenario | None = None) -> Outcome:
    """Run it and judge it. Deterministic. `scenario`: made for this run; by default `Summing`."""
    before: Callable[..., Any] = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        outcome = _run(schedule, scenario)
        # Generators that were left in the middle complain when they are collected: here, where that means nothing.
        gc.collect(1)
        return outcome
    finally:
        sys.unraisablehook = before


def _run(schedule: Schedule, scenario: Scenario | None) -> Outcome:
    world = World(schedule, scenario or Summing())
    loop, outcome = world.loop, world.outcome
    with _quiet(loop):
        try:
            loop.run(world.live(), most_steps=STEPS)
            outcome.differences = differences(world)
        except Stalled as stalled:
            outcome.differences = [f"stalled: {stalled}", *differences(world)]
        everybody = [*world.workers(), *world.graves]
        outcome.differences += [f"{w.name} crashed: {w.crash!r}" for w in everybody if w.crash is not None]
        outcome.steps, outcome.virtual_s = loop.steps, loop.now
        outcome.counts["rebalances"] += world.group.rebalances
        outcome.counts["glitches"] += world.net.glitches
        outcome.counts["dropped"] += sum(c.dropped for w in everybody for c in w.channels)
        _bury(world)
    return outcome


@contextmanager
def _quiet(loop: SimLoop) -> Iterator[None]:
    """The loop is the running one; what the transport logs about planted faults is not printed."""
    before: Callable[..., Any] = sys.unraisablehook
    hooks = sys.get_asyncgen_hooks()
    logging.disable(logging.CRITICAL)
    collecting = gc.isenabled()
    gc.disable()
    asyncio._set_running_loop(loop)
    sys.set_asyncgen_hooks(firstiter=loop.generators.append, finalizer=None)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)
        asyncio._set_running_loop(None)
        if collecting:
            gc.enable()
        sys.unraisablehook = before
        logging.disable(logging.NOTSET)


def _bury(world: World) -> None:
    """Close what is still waiting, so that no frame of this run is alive in the next one."""
    workers = [*world.workers(), *world.graves]
    processes = {world.loop.broker, *(worker.process for worker in workers)}
    for process in processes:
        process.dead = True
    # What is closed may begin new tasks, in the name of nobody: they come to the broker.
    while left := [task for process in processes for task in process.tasks]:
        for process in processes:
            process.tasks.clear()
        for task in left:
            _close(task.get_coro())
    for generator in world.loop.generators:
        _close(generator.aclose(), begun=True)
    world.loop.generators.clear()


def _close(coro: Any, *, begun: bool = False) -> None:
    for _ in range(20):
        try:
            if begun:
                coro.send(None)
            else:
                coro.close()
                return
        except (StopIteration, StopAsyncIteration):
            return
        except BaseException:  # a `finally` that awaits, or one that fails: on to the next
            continue
