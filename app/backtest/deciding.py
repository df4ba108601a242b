"""DECIDE and ORCHESTRATE in a backtest: what METER sent comes in, commands are kept instead of written.

Between two cuts the order is: signals, what METER closed, what DECIDE told, then runs that are due, until nothing more is. A
recorded receipt is told when its time has come and its command was given; a command that was never given in earnest gets a
receipt that says delivered, and is marked as simulated.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from app.backtest.metering import REGISTERS, Rows, Sent
from core.batch import Batch
from core.decide.signals import SignalsTask
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.meter.keys import partition_of
from core.task import Task
from core.workflows.task import SETTLED_MS, RunsTask
from schemas.commands import Command
from schemas.delivery import Receipt
from schemas.envelope import derived_id
from schemas.registers import SOURCES

SIGNALS, DETECTIONS, RECEIPTS = "signals", "detections", "receipts"
Told = tuple[int, bytes, bytes]
"""Broker time, key, value of a recorded receipt."""


class Deciding:
    """All partitions' tasks. `receipts`: final ones, by command; `sent`: ids of commands that were given in earnest."""

    def __init__(
        self,
        catalogue: Catalogue,
        partitions: int,
        receipts: Mapping[str, list[Told]],
        sent: frozenset[str],
    ) -> None:
        self.commands: list[Command] = []
        self.suppressed: Counter[tuple[str, str]] = Counter()
        """(rule, reason) → how many, warm-up and all."""
        self.failed: Counter[str] = Counter()
        self._partitions = partitions
        self._registers = [RegistersTask(p, partitions, catalogue, sources=SOURCES) for p in range(partitions)]
        self._signals = [SignalsTask(p, partitions, catalogue) for p in range(partitions)]
        self._runs = [RunsTask(p, partitions, catalogue, SOURCES) for p in range(partitions)]
        self._receipts, self._sent = receipts, sent
        self._later: list[Told] = []
        self._places: dict[bytes, int] = {}
        self._now = 0

    def work(self, sent: Iterable[Sent], by_hand: Iterable[Sent], now: int) -> None:
        """Take what came until this broker time."""
        self._now = now
        signals: list[Sent] = []
        registers: list[Sent] = []
        for one in (*by_hand, *sent):
            (signals if one[0] == SIGNALS else registers).append(one)
        self._to_signals(signals)
        self._to_registers(registers)
        while self._later and self._later[0][0] < now:
            _, place, value = heapq.heappop(self._later)
            self._step(self._runs, RECEIPTS, [(RECEIPTS, place, value, None)])
        self._due()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _to_signals(self, signals: list[Sent]) -> None:
        if signals:
            self._step(self._signals, SIGNALS, signals)
            self._step(self._runs, SIGNALS, signals)

    def _to_registers(self, records: list[Sent]) -> None:
        """Registers of all sources first, then the clocks that say they are all there."""
        figures = [one for one in records if one[1] is not None]
        clocks = [one for one in records if one[1] is None]
        if figures:
            self._step(self._registers, REGISTERS, figures)
        if clocks:
            self._step(self._registers, REGISTERS, clocks)
            self._step(self._runs, REGISTERS, clocks)

    def _due(self) -> None:
        """Runs that wait for a time that has come, until none does."""
        now = self._now
        for task in self._runs:
            caught_up = [(SIGNALS, task.partition)]
            self._perform(task.tick(now, caught_up))
            self._perform(task.tick(now + SETTLED_MS, caught_up))
            while (wake := task.wake_at()) is not None:
                before = len(task.desk), task.desk.due
                self._perform(task.tick(max(wake, now + SETTLED_MS), caught_up))
                if (len(task.desk), task.desk.due) == before:
                    break

    def _step(
        self, tasks: list[RegistersTask] | list[SignalsTask] | list[RunsTask], topic: str, rows: list[Sent]
    ) -> None:
        by_partition: dict[int, list[Sent]] = defaultdict(list)
        for one in rows:
            partition = one[3] if one[3] is not None else self._place(one[1])
            by_partition[partition].append(one)
        for partition, some in sorted(by_partition.items()):
            task: Task = tasks[partition]
            self._perform(task.step(self._batch(topic, partition, some)))

    def _batch(self, topic: str, partition: int, rows: list[Sent]) -> Batch:
        n = len(rows)
        offsets = np.arange(n, dtype=np.int64)
        stamps = np.full(n, self._now, np.int64)
        return Rows(topic, partition, offsets, stamps, [r[1] for r in rows], [r[2] for r in rows], {}).cut(0, n)

    def _place(self, of: bytes | None) -> int:
        if of is None:
            return 0
        found = self._places.get(of)
        if found is None:
            found = self._places[of] = partition_of(of, self._partitions)
        return found

    def _perform(self, effects: Iterable[Effect]) -> None:
        told: dict[str, list[Sent]] = defaultdict(list)
        for effect in effects:
            if isinstance(effect, Count):
                if effect.metric == "uptake_failed_total":
                    self.failed[effect.labels[-1]] += int(effect.n)
            elif isinstance(effect, Emit) and effect.value is not None:
                if effect.topic.startswith("commands."):
                    told[RECEIPTS] += self._command(Command.model_validate_json(effect.value), effect.key or b"")
                elif effect.topic in (SIGNALS, DETECTIONS):
                    told[effect.topic].append((effect.topic, effect.key, effect.value, effect.partition))
                elif effect.topic == RECEIPTS:
                    self._suppressed(effect.value)
                    told[RECEIPTS].append((RECEIPTS, effect.key, effect.value, None))
        if told[SIGNALS]:
            self._to_signals(told[SIGNALS])
        for topic in (DETECTIONS, RECEIPTS):
            if told[topic]:
                self._step(self._runs, topic, told[topic])

    def _suppressed(self, value: bytes) -> None:
        receipt = Receipt.model_validate_json(value)
        if receipt.status == "suppressed":
            self.suppressed[receipt.rule, receipt.reason or ""] += 1

    def _command(self, command: Command, place: bytes) -> list[Sent]:
        """Keep it; the receipts that it gets now."""
        self.commands.append(command)
        if command.id not in self._sent:
            return [(RECEIPTS, place, simulated(command, self._now).model_dump_json().encode(), None)]
        now: list[Sent] = []
        for receipt in self._receipts.get(command.id, ()):
            if receipt[0] < self._now:
                now.append((RECEIPTS, receipt[1], receipt[2], None))
            else:
                heapq.heappush(self._later, receipt)
        return now


def simulated(command: Command, now: int) -> Receipt:
    """What a command that nobody ever delivered is taken to have come to."""
    return Receipt(
        id=derived_id("receipt", command.id, "backtest"),
        delivery=None,
        command=command.id,
        command_type=command.type,
        tenant=command.tenant,
        product=command.product,
        subject=command.subject,
        rule=command.rule,
        connection=None,
        integration="backtest",
        sandboxed=True,
        attempt=1,
        status="delivered",
        final=True,
        at=now,
    )
