"""One product in DECIDE: figures in, ends judged in time order, findings and rows out.

An end is judged once every source partition has passed it, on version 0 of all of them. Ends at which nothing changes and
nothing is pending are skipped, so `due` holds exactly the ends at which something may happen.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from core.decide.adoption import KEEP_MS, Adoption
from core.decide.alarms import Alarms
from core.decide.anomalies import Anomalies
from core.decide.attic import Attic
from core.decide.figures import groups
from core.decide.gauges import Gauges
from core.decide.ladder import STAGES
from core.decide.measures import (
    FEEDBACK_COLUMNS,
    PERFORMANCE_COLUMNS,
    USAGE_COLUMNS,
    USERS,
    Correction,
    Measures,
)
from core.decide.revisions import Revisions
from core.decide.schedules import Schedules
from core.decide.slots import ending, next_end
from core.decide.vitals import Vitals
from core.outcomes.trials import Trials
from schemas.definitions import Detector, OnSchedule, Product, Rule, Threshold
from schemas.detections import Detection
from schemas.registers import HOT, OTHERS, SOURCES, WINDOWS, Registers

_DAY_MS = 86_400_000
Clocks = np.ndarray[tuple[int], np.dtype[np.int64]]
Found = tuple[Detection, int]
"""A detection, and the product's active users in its window at that end."""
Judged = tuple[int, bool, list[Found]]
"""(end, whether rules may act on it, findings in order)."""


class ProductState:
    """Everything DECIDE keeps of one product."""

    def __init__(
        self, tenant: str, name: str, partitions: int, sources: int = len(HOT), attic: Attic | None = None
    ) -> None:
        attic = attic or Attic()
        self.tenant, self.name, self.partitions = tenant, name, partitions
        self.clocks = np.full(sources * partitions, -1, np.int64)
        """What each source has said of this product: usage partitions, then performance partitions, then those of the others."""
        self.replayed: bool | None = None
        """Whether it began with a replay: then a source counts only from its first word of this product on."""
        self.born = -1
        """Broker time of the record it began with. Not every replay has rows of the other topics: of a source of these that has
        not spoken of the product, an idle clock counts that is not older."""
        self.since = np.full(sources * partitions, -1, np.int64)
        """Clock of each source at its first word of this product: when `replayed`, only a later one counts; else, what a
        source whose part began with a replay tells of ends before it comes too late."""
        self.judged = -1
        """Every end up to here is judged."""
        self.act = True
        self.act_at: dict[int, bool] = {}
        """End → whether every patch queued under it may act."""
        self.usage = Measures(partitions, USAGE_COLUMNS, attic)
        self.performance = Measures(partitions, PERFORMANCE_COLUMNS, attic)
        self.feedback = Measures(partitions, FEEDBACK_COLUMNS, attic)
        self.adoption = Adoption(tenant, name, self.usage)
        self.vitals = Vitals(tenant, name, self.usage, self.performance, self.feedback)
        gauges = Gauges(self.usage, self.performance)
        self.alarms = Alarms(tenant, name, gauges)
        self.anomalies = Anomalies(tenant, name, gauges)
        self.schedules = Schedules(tenant, name)
        self.trials = Trials(gauges)
        self._figured: Callable[[Detection], list[Rule]] = lambda found: []
        self.revisions = Revisions(name, gauges)
        self._minding: Callable[[Detection], list[Rule]] = lambda found: []
        self._reports = False
        self.days: list[tuple[int, bool, dict[str, float]]] = []
        """Days that have ended, for reports: end, whether it may act, figures."""
        self.due: list[int] = []
        self._due: set[int] = set()
        self.cfg = Product(tenant=tenant, name=name)
        self.thresholds: dict[str, list[Threshold]] = {w: [] for w in WINDOWS}
        self.detectors: dict[str, list[Detector]] = {w: [] for w in WINDOWS}
        self.generation = -1

    # --- taking in --------------------------------------------------------------------------------------------------

    def configure(
        self,
        cfg: Product,
        thresholds: Iterable[Threshold],
        generation: int,
        schedules: Mapping[str, OnSchedule] | None = None,
        detectors: Iterable[Detector] = (),
        figured: Callable[[Detection], list[Rule]] | None = None,
        reports: bool = False,
        minding: Callable[[Detection], list[Rule]] | None = None,
    ) -> None:
        """The product's settings, its thresholds and detectors in order of name, and its schedules by name, as they stand now.

        `figured`: the rules that a finding meets and that are measured by figures; `reports`: whether days are to be told;
        `minding`: the rules that a finding meets and that mind late data.
        """
        self._minding = minding or self._minding
        self._figured, self._reports = figured or self._figured, reports
        known, reading = list(thresholds), list(detectors)
        self.cfg, self.generation = cfg, generation
        self.thresholds = {w: [t for t in known if t.window == w] for w in WINDOWS}
        self.detectors = {w: [d for d in reading if d.window == w] for w in WINDOWS}
        self.alarms.retain(known)
        self.anomalies.retain(reading)
        self.schedules.configure(schedules or {}, self.judged)

    def schedule(self, ends: Iterable[int]) -> None:
        """Have these ends judged, whatever comes."""
        for end in ends:
            if end > self.judged and end not in self._due:
                self._due.add(end)
                heapq.heappush(self.due, end)

    def take(self, record: Registers, clocks: Clocks, idle: Clocks, broker_time: int = 0) -> int:
        """Take one record of a source in; the number of corrections that came too late to matter.

        `clocks`, `idle`: what sources have said for any product until now, at all and outside replays. `broker_time`: of the record.
        """
        usage = record.source == "events.usage"
        measures = self.usage if usage else self.feedback if record.source == OTHERS else self.performance
        source = record.partition + SOURCES.index(record.source) * self.partitions
        if self.replayed is None:
            self.replayed, self.born = record.replay, broker_time
        if self.clocks[source] < 0 and (self.replayed or record.replay):
            self.since[source] = (idle if self.replayed else clocks)[source]
        if record.source == OTHERS and not record.patches:
            self.clocks[source] = max(int(self.clocks[source]), record.clock)
            return 0
        passed = self.judged if self.replayed else max(self.judged, int(self.since[source]))
        ends, corrections = measures.take(record, passed)
        for end in ends:
            self.act_at[end] = self.act_at.get(end, True) and record.act
        self.schedule(ends)
        expired = sum(self._correct(record.partition, correction) for correction in corrections) if usage else 0
        self.clocks[source] = max(int(self.clocks[source]), record.clock)
        return expired

    def _correct(self, partition: int, correction: Correction) -> int:
        window, ends, cells, values = correction
        kept = ends > self.horizon
        expired = len(np.unique(ends[~kept]))
        if not kept.all():
            ends, cells, values = ends[kept], cells[kept], values[kept]
        if len(ends):
            self.usage.windows[window].fix(partition, ends, cells, values)
            for end, of in groups(ends, cells):
                self.adoption.correct(window, end, of, self.judged)
        return expired

    # --- judging ----------------------------------------------------------------------------------------------------

    def judge(self, clocks: Clocks, idle: Clocks, broker_time: int = 0) -> Iterator[Judged]:
        """Judge every due end that all sources have passed, each as it is asked for. `clocks`, `idle`: as for `take`;
        `broker_time`: of the record that is judged by.
        """
        self.schedules.heard = max(self.schedules.heard, broker_time)
        self.schedule(self.schedules.plan())
        if self.replayed:
            silent = self.clocks < 0
            silent[: len(HOT) * self.partitions] = False
            heard = np.where(((self.clocks >= 0) & (idle > self.since)) | (silent & (idle >= self.born)), idle, -1)
            now = int(np.maximum(self.clocks, heard).min())
        else:
            now = int(np.maximum(self.clocks, clocks).min())
        while self.due and self.due[0] <= now:
            end = heapq.heappop(self.due)
            self._due.discard(end)
            self.judged = end
            self.act = self.act_at.pop(end, self.act)
            detections = self._judge(end)
            # Counted now: the next end moves the sums on.
            yield end, self.act, [(d, self.active_users(d.window)) for d in detections]
        if now > self.judged:
            self.judged = now
        self.adoption.passed(self.judged)

    def active_users(self, window: str) -> int:
        """Of the product, at the window's newest judged end."""
        return int(self.usage.windows[window].totals[0, USERS])

    def _judge(self, end: int) -> list[Detection]:
        cfg, adoption, figures = self.cfg, self.adoption, self.usage.windows
        windows = ending(end)
        for window in windows:
            adoption.flush_over(window, end, cfg)
        # Most ends have figures of requests only: what is of use stands still there.
        active = {w: self.active_users(w) for w in windows if figures[w].waits(end)}
        used = {w: figures[w].apply(end) for w in windows}
        for window in windows:
            self.performance.windows[window].add(end)
            self.feedback.windows[window].add(end)

        seen = {int(c) for w in active for c in used[w]}
        if cfg.features:
            seen.update(self.usage.cells(cfg.features).tolist())
        if seen:
            self.schedule(adoption.appear(sorted(seen), end))
        found: list[Detection] = []
        if cfg.stage_window in windows and self._stage_due(cfg, end, bool(len(used[cfg.stage_window]))):
            stages, due = adoption.judge_stage(cfg, end)
            found += stages
            self.schedule(due)
        elif adoption.stale_stage:
            self.schedule([next_end(cfg.stage_window, end + 1)])
        for window in windows:
            moved = window in active and self.active_users(window) != active[window]
            adoption.mark(window, end, used[window], moved)

        found += self._judge_health(cfg, end)
        for window in windows:
            if self.thresholds[window]:
                found += self._judge_thresholds(window, end)
            if self.detectors[window]:
                found += self._judge_detectors(window, end)
        found += self.schedules.judge(end, self.vitals.score)
        self.schedule(self.schedules.plan())
        self.revisions.judge(end, cfg, (t for of in self.thresholds.values() for t in of))
        self.trials.judge(end, cfg, self.vitals.score)
        for one in found:
            self.schedule(self.trials.begin(one, self._figured(one), cfg, self.vitals.score))
            self.schedule(self.revisions.begin(one, self.active_users(one.window), self._minding(one), cfg))
        if self._reports:
            if end % _DAY_MS == 0:
                self.days.append((end, self.act, self._day()))
            self.schedule([(end // _DAY_MS + 1) * _DAY_MS])
        return found

    def _day(self) -> dict[str, float]:
        """Figures of the day that ends, those that there are."""
        health, adoption = self.vitals, self.adoption
        known = {n: s for n, s in health.components.items() if n in ("engagement", "responsiveness", "reliability")}
        if "satisfaction" in health.components:
            known["satisfaction"] = health.components["satisfaction"]
        if health.score is not None:
            known["health"] = health.score
        if adoption.rates[0]:
            known["adoption"] = adoption.rates[1]
        stages = [STAGES[int(adoption.ladder.level[c])] for c in adoption.first_at if c < len(adoption.ladder.level)]
        staged = [s for s in stages if s != "no_data"]
        if staged:
            known["market_share"] = staged.count("market") / len(staged)
        return {**known, "active_users": float(self.active_users("1d"))}

    def _stage_due(self, cfg: Product, end: int, changed: bool) -> bool:
        return changed or self.adoption.stale_stage or self.adoption.ladder.any_pending()

    def _judge_health(self, cfg: Product, end: int) -> list[Detection]:
        at = next_end(cfg.health_window, end)
        if at != end:
            self.schedule([at])
            return []
        found, due = self.vitals.judge(cfg, end, self.adoption.rates)
        self.schedule(due)
        return list(found)

    def _judge_thresholds(self, window: str, end: int) -> list[Detection]:
        in_force = [t for t in self.thresholds[window] if t.effective_from <= end]
        found, due = self.alarms.judge(in_force, end, self.cfg, self._features, self.vitals.score)
        self.schedule(due)
        return list(found)

    def _judge_detectors(self, window: str, end: int) -> list[Detection]:
        in_force = [d for d in self.detectors[window] if d.effective_from <= end]
        found, due = self.anomalies.judge(in_force, end, self.cfg, self._features, self.vitals.score)
        self.schedule(due)
        return list(found)

    def _features(self) -> list[str]:
        """Features that have rows, in the order in which they appeared."""
        return [self.usage.names[c] for c in self.adoption.first_at]

    @property
    def behind_ms(self) -> int:
        """Event time by which the source farthest ahead is ahead of what is judged: figures of it wait."""
        told = int(self.clocks.max())
        judged = self.judged if self.judged >= 0 or not self.due else self.due[0]
        return max(0, told - judged) if judged >= 0 else 0

    @property
    def horizon(self) -> int:
        """No correction of ends up to here is taken any more."""
        return self.judged - KEEP_MS

    def let_go(self) -> None:
        """Forget what waits for a checkpoint, and history that no correction can need."""
        self.forget()
        for measures in (self.usage, self.performance, self.feedback):
            for figures in measures.windows.values():
                figures.fresh.clear()
                figures.dirty_pages.clear()
                figures.dirty_fixes.clear()
        self.adoption.dirty_versions.clear()

    def forget(self) -> tuple[list[tuple[str, int, int]], list[tuple[str, int]]]:
        """Drop history that no correction can need; the (window, end, source) fixes and (window, slot) counters that went."""
        until = self.horizon
        fixes = [(w, e, s) for w, f in self.usage.windows.items() for e, s in f.forget(until)]
        for figures in (*self.performance.windows.values(), *self.feedback.windows.values()):
            figures.forget(self.judged)
        return fixes, self.adoption.forget(until)
