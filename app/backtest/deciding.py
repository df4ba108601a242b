"""DECIDE's second task and ORCHESTRATE in a backtest: commands are kept instead of written.

Between two cuts signals are met in the order of the log, then what was judged on METER's figures; then runs are told of all of it,
each thing in its place (`app.backtest.running`): nothing that runs do comes back to DECIDE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from app.backtest.judging import Feed, Said, said
from app.backtest.metering import Sent
from app.backtest.report import Given, given
from app.backtest.running import Running, Told
from app.backtest.timeline import Timeline
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.workflows.shelf import DETECTIONS
from core.workflows.task import RECEIPTS, SIGNALS


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
        self._feed = Feed(partitions)
        self._signals = [SignalsTask(p, partitions, catalogue) for p in range(partitions)]
        give, withheld = self.commands.append, self._withheld
        self._running = Running(catalogue, partitions, timeline, receipts, sent, give, withheld)
        self._begin = self._end = 0

    def work(self, sent: Iterable[Sent], judged: Said, by_hand: Iterable[Sent], end: int) -> None:
        """Take what came until this broker time: METER's signals and clocks, what was judged, what people and the API asked for."""
        self._begin, self._end = self._end, end
        signals = list(by_hand)
        clocks: list[Sent] = []
        for one in sent:
            (signals if one[0] == SIGNALS else clocks).append(one)
        signals.sort(key=lambda s: s[4] or end)
        self._to_signals(signals)
        self._take(judged)
        for of in self._signals:
            of.let_go()
        self._running.work(clocks, end)
        if self._running.failed:
            self.failed["step"] = self._running.failed

    # --- inside -----------------------------------------------------------------------------------------------------

    def _to_signals(self, signals: list[Sent]) -> None:
        self._tell(SIGNALS, signals)
        for partition, batch in self._feed.batches(SIGNALS, signals, self._end):
            self._take(said(self._signals[partition].step(batch)))

    def _tell(self, topic: str, some: list[Sent]) -> None:
        for one in some:
            self._running.tell(topic, self._feed.partition(one), one, self._begin, self._end)

    def _take(self, found: Said) -> None:
        self.failed.update(found.failed)
        told: dict[str, list[Sent]] = {SIGNALS: [], DETECTIONS: []}
        for one in found.sent:
            if one[0] in told:
                told[one[0]].append(one)
            elif one[0] == RECEIPTS:
                self._withheld(one[2])
            else:
                self.commands.append(given(one[2]))
        self._tell(DETECTIONS, told[DETECTIONS])
        if told[SIGNALS]:
            self._to_signals(told[SIGNALS])

    def _withheld(self, value: bytes) -> None:
        receipt = _suppressed(value)
        if receipt.status == "suppressed":
            self.suppressed[receipt.rule, receipt.reason or ""] += 1
