"""DECIDE and ORCHESTRATE in a backtest: what METER sent comes in, commands are kept instead of written.

Between two cuts DECIDE takes rows in the order of the log, then what METER closed; then runs are told of all of it, each thing in its
place (`app.backtest.running`): nothing that runs do comes back to DECIDE.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from app.backtest.metering import REGISTERS, Rows, Sent
from app.backtest.report import Given, given
from app.backtest.running import Running, Told
from app.backtest.timeline import Timeline
from core.batch import Batch
from core.decide.signals import SignalsTask
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from core.meter.keys import partition_of
from core.workflows.shelf import DETECTIONS
from core.workflows.task import RECEIPTS, SIGNALS
from schemas.registers import SOURCES


class _Suppressed(msgspec.Struct):
    rule: str
    status: str
    reason: str | None = None


_suppressed = msgspec.json.Decoder(_Suppressed).decode


class Deciding:
    """All partitions' tasks. `receipts`: final ones, by command; `sent`: ids of commands that were given in earnest."""

    def __init__(
        self,
        catalogue: Catalogue,
        partitions: int,
        timeline: Timeline,
        receipts: Mapping[str, list[Told]],
        sent: frozenset[str],
    ) -> None:
        self.commands: list[Given] = []
        self.suppressed: Counter[tuple[str, str]] = Counter()
        """(rule, reason) → how many, warm-up and all."""
        self.failed: Counter[str] = Counter()
        self._partitions = partitions
        self._registers = [
            RegistersTask(p, partitions, catalogue, sources=SOURCES, tables=False) for p in range(partitions)
        ]
        self._signals = [SignalsTask(p, partitions, catalogue) for p in range(partitions)]
        give, withheld = self.commands.append, self._withheld
        self._running = Running(catalogue, partitions, timeline, receipts, sent, give, withheld)
        self._places: dict[bytes, int] = {}
        self._begin = self._end = 0

    def work(self, sent: Iterable[Sent], by_hand: Iterable[Sent], end: int) -> None:
        """Take what came until this broker time."""
        self._begin, self._end = self._end, end
        signals: list[Sent] = []
        figures: list[Sent] = []
        clocks: list[Sent] = []
        for one in (*by_hand, *sent):
            if one[0] == SIGNALS:
                signals.append(one)
            else:
                (clocks if one[1] is None else figures).append(one)
        signals.sort(key=lambda s: s[4] or end)
        self._to_signals(signals)
        # Registers of all sources first, then the clocks that say they are all there.
        self._step(self._registers, REGISTERS, figures)
        self._step(self._registers, REGISTERS, clocks)
        for registers, of in zip(self._registers, self._signals, strict=True):
            registers.let_go()
            of.let_go()
        self._running.work(clocks, end)
        if self._running.failed:
            self.failed["step"] = self._running.failed

    # --- inside -----------------------------------------------------------------------------------------------------

    def _to_signals(self, signals: list[Sent]) -> None:
        self._tell(SIGNALS, signals)
        self._step(self._signals, SIGNALS, signals)

    def _tell(self, topic: str, some: list[Sent]) -> None:
        for one in some:
            self._running.tell(topic, self._partition(one), one, self._begin, self._end)

    def _step(self, tasks: list[RegistersTask] | list[SignalsTask], topic: str, rows: list[Sent]) -> None:
        by_partition: dict[int, list[Sent]] = defaultdict(list)
        for one in rows:
            by_partition[self._partition(one)].append(one)
        for partition, some in sorted(by_partition.items()):
            self._perform(tasks[partition].step(self._batch(topic, partition, some)))

    def _batch(self, topic: str, partition: int, rows: list[Sent]) -> Batch:
        n = len(rows)
        offsets = np.arange(n, dtype=np.int64)
        stamps = np.array([r[4] or self._end for r in rows], np.int64)
        return Rows(topic, partition, offsets, stamps, [r[1] for r in rows], [r[2] for r in rows], {}).cut(0, n)

    def _partition(self, one: Sent) -> int:
        of = one[1]
        if one[3] is not None:
            return one[3]
        if of is None:
            return 0
        found = self._places.get(of)
        if found is None:
            found = self._places[of] = partition_of(of, self._partitions)
        return found

    def _perform(self, effects: Iterable[Effect]) -> None:
        signals: list[Sent] = []
        detections: list[Sent] = []
        for effect in effects:
            if isinstance(effect, Count):
                if effect.metric == "uptake_failed_total":
                    self.failed[effect.labels[-1]] += int(effect.n)
            elif isinstance(effect, Emit) and effect.value is not None:
                if effect.topic.startswith("commands."):
                    self.commands.append(given(effect.value))
                elif effect.topic == SIGNALS:
                    signals.append((SIGNALS, effect.key, effect.value, effect.partition, 0))
                elif effect.topic == DETECTIONS:
                    detections.append((DETECTIONS, effect.key, effect.value, effect.partition, 0))
                elif effect.topic == RECEIPTS:
                    self._withheld(effect.value)
        self._tell(DETECTIONS, detections)
        if signals:
            self._to_signals(signals)

    def _withheld(self, value: bytes) -> None:
        receipt = _suppressed(value)
        if receipt.status == "suppressed":
            self.suppressed[receipt.rule, receipt.reason or ""] += 1
