"""A product's state as keyed rows: what changed since the last checkpoint, and the state back from rows.

`totals` and the queue of ends are not written: they follow from `current` and the log of differences. The log is written
once, in rows of its own that are deleted when no correction can need them any more.

    product  clocks, judged time, timers, health, thresholds        adoption  features, stages, viral flags
    names    256 names each                                         figures   256 cells of one source and window
    log      differences taken in between two checkpoints           fixes, versions   while corrections may come
    schedules  where each schedule stands                           trials    comparisons of figures that go on
    revisions  findings that late data may correct
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from core.decide.anomalies import Series
from core.decide.figures import PAGE
from core.decide.history import TICK, Entries
from core.decide.ladder import Ladder
from core.decide.measures import Measures
from core.decide.packing import encode, key, narrow, pack, unpack
from core.decide.product import ProductState
from core.detect.threshold import State
from core.task import StateRecord

_LOG_ROW = 20_000
"""Differences a log row holds at most; keeps it far below the largest record."""


class Snapshot:
    """Writes and reads the state rows of one product."""

    def __init__(self, state: ProductState) -> None:
        self.state = state
        self._kinds: dict[str, Measures] = {
            "usage": state.usage,
            "performance": state.performance,
            "feedback": state.feedback,
        }
        self._names = dict.fromkeys(self._kinds, 0)
        self._log_rows: dict[int, int] = {}
        """Number of a log row → the newest end in it."""
        self._next_row = 0
        self._adoption: bytes = b""
        self._schedules: bytes = encode(state.schedules.row())
        self._trials: bytes = encode(state.trials.row())
        self._revisions: bytes = encode(state.revisions.row())

    # --- writing ----------------------------------------------------------------------------------------------------

    def drain(self) -> Iterator[StateRecord]:
        """Rows that differ from those written before. Call when the product has taken in or judged something."""
        state = self.state
        fixes, versions = state.forget()
        for window, end, source in fixes:
            state.usage.windows[window].dirty_fixes.discard((end, source))
            yield self._key("fixes", window, end, source), None
        for window, at in versions:
            state.adoption.dirty_versions.discard((window, at))
            yield self._key("versions", window, at), None
        yield self._key("product"), encode(self._product())
        adoption = encode(self._features())
        if adoption != self._adoption:
            self._adoption = adoption
            yield self._key("adoption"), adoption
        schedules = encode(state.schedules.row())
        if schedules != self._schedules:
            self._schedules = schedules
            yield self._key("schedules"), schedules
        trials = encode(state.trials.row())
        if trials != self._trials:
            self._trials = trials
            yield self._key("trials"), trials
        revisions = encode(state.revisions.row())
        if revisions != self._revisions:
            self._revisions = revisions
            yield self._key("revisions"), revisions
        for kind, measures in self._kinds.items():
            yield from self._measures(kind, measures)
        yield from self._log()
        for detector, name in sorted(state.anomalies.dirty):
            series = state.anomalies.series.get((detector, name))
            yield self._key("series", detector, name), None if series is None else encode(series.row())
        state.anomalies.dirty.clear()
        for window, figures in state.usage.windows.items():
            for end, source in sorted(figures.dirty_fixes):
                yield self._key("fixes", window, end, source), encode(pack(figures.fixes[end][source]))
            figures.dirty_fixes.clear()
        for window, at in sorted(state.adoption.dirty_versions):
            yield self._key("versions", window, at), encode(state.adoption.versions[window, at])
        state.adoption.dirty_versions.clear()

    def _key(self, row: str, *more: str | int) -> bytes:
        return key(row, self.state.tenant, self.state.name, *more)

    def _measures(self, kind: str, measures: Measures) -> Iterator[StateRecord]:
        have = len(measures.names)
        for page in range(self._names[kind] // PAGE, -(-have // PAGE)) if have != self._names[kind] else ():
            yield self._key("names", kind, page), encode(measures.names[page * PAGE : (page + 1) * PAGE])
        self._names[kind] = have
        for window, figures in measures.windows.items():
            for source, page in sorted(figures.dirty_pages):
                cells = figures.current[source, page * PAGE : (page + 1) * PAGE]
                yield self._key("figures", kind, window, source, page), encode(pack(cells))
            figures.dirty_pages.clear()

    def _log(self) -> Iterator[StateRecord]:
        for number in [n for n, newest in self._log_rows.items() if newest <= self._horizon("usage")]:
            del self._log_rows[number]
            yield self._key("log", number), None
        for kind, measures in self._kinds.items():
            for window, figures in measures.windows.items():
                for source, entries in figures.fresh:
                    wanted = entries.where(entries.ends > self._horizon(kind))
                    for i in range(0, len(wanted), _LOG_ROW):
                        part = Entries(*(column[i : i + _LOG_ROW] for column in wanted.columns()))
                        yield self._log_row(kind, window, source, part)
                figures.fresh.clear()

    def _horizon(self, kind: str) -> int:
        """Differences of ends up to here are of no use any more."""
        return self.state.horizon if kind == "usage" else self.state.judged

    def _log_row(self, kind: str, window: str, source: int, entries: Entries) -> StateRecord:
        number = self._next_row
        self._next_row += 1
        self._log_rows[number] = int(entries.ends[-1])
        base = int(entries.ends[0])
        row = [
            kind,
            window,
            source,
            base,
            pack((entries.ends - base) // TICK),
            pack(entries.cells),
            [pack(entries.deltas[:, i]) for i in range(entries.deltas.shape[1])],
        ]
        return self._key("log", number), encode(row)

    def _product(self) -> list[object]:
        state, vitals = self.state, self.state.vitals
        return [
            state.clocks.tolist(),
            state.judged,
            state.act,
            list(state.act_at.items()),
            [e for e in state.due if e not in state.act_at],
            [(w, end, sorted(cells)) for w, ends in state.adoption.touch.items() for end, cells in ends.items()],
            [_ladder(vitals.ladder), vitals.trend, vitals.score, vitals.shown, vitals.version],
            [(*of, s.phase, s.since, s.crossed_since, s.fired_at, s.between) for of, s in state.alarms.states.items()],
            [state.replayed, state.since.tolist(), state.born],
        ]

    def _features(self) -> list[object]:
        adoption = self.state.adoption
        return [
            list(adoption.first_at.items()),
            _ladder(adoption.ladder),
            pack(adoption.viral.astype(np.int64)),
            adoption.attributed,
            adoption.stale_stage,
            adoption.history,
            adoption.rates,
        ]

    # --- reading ----------------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[tuple[list[Any], Any]]) -> None:
        """Fill the (empty) product from its rows, keys without tenant and product: `[row, …]`."""
        by_row: dict[str, list[tuple[list[Any], Any]]] = {}
        for parts, value in rows:
            by_row.setdefault(parts[0], []).append((parts[1:], value))
        for (kind, _page), names in sorted(by_row.get("names", [])):
            self._kinds[kind].cells(names)
        for (kind, window, source, page), packed in by_row.get("figures", []):
            figures = self._kinds[kind].windows[window]
            cells = unpack(packed).reshape(-1, figures.width)
            figures.grow(page * PAGE + len(cells))
            figures.current[source, page * PAGE : page * PAGE + len(cells)] = cells
        self._restore_product(by_row["product"][0][1])
        if "adoption" in by_row:
            self._restore_features(by_row["adoption"][0][1])
        for _, row in by_row.get("schedules", []):
            self.state.schedules.restore(row)
        self._schedules = encode(self.state.schedules.row())
        for _, row in by_row.get("trials", []):
            self.state.schedule(self.state.trials.restore(row))
        self._trials = encode(self.state.trials.row())
        for _, row in by_row.get("revisions", []):
            self.state.schedule(self.state.revisions.restore(row))
        self._revisions = encode(self.state.revisions.row())
        self._restore_log(by_row.get("log", []))
        for (window, end, source), packed in by_row.get("fixes", []):
            self.state.usage.windows[window].fixes[end][source] = narrow(unpack(packed).reshape(-1, 3))
        for (window, at), counts in by_row.get("versions", []):
            self.state.adoption.versions[window, at] = counts
        for (detector, name), row in by_row.get("series", []):
            series = Series.of(row)
            if series is not None:
                self.state.anomalies.series[detector, name] = series
        self._names = {kind: len(m.names) for kind, m in self._kinds.items()}
        self._adoption = encode(self._features())

    def _restore_product(self, row: list[Any]) -> None:
        state, vitals = self.state, self.state.vitals
        clocks, state.judged, state.act, act_at, due, touch, health, alarms, replay = row
        # a version that knew fewer sources wrote fewer clocks: the others have not spoken of the product yet
        state.clocks[: len(clocks)] = clocks
        state.replayed = replay[0]
        state.since[: len(replay[1])] = replay[1]
        state.born = replay[2] if len(replay) > 2 else -1
        state.act_at = dict(act_at)
        state.schedule(due)
        state.schedule(state.act_at)
        for window, end, cells in touch:
            state.adoption.touch[window][end].update(cells)
        state.adoption.restored()
        ladder, trend, vitals.score, vitals.shown, version = health
        vitals.ladder, vitals.trend, vitals.version = _read_ladder(ladder), [tuple(t) for t in trend], tuple(version)
        state.alarms.states = {(t, n): State(*rest) for t, n, *rest in alarms}

    def _restore_features(self, row: list[Any]) -> None:
        adoption = self.state.adoption
        first_at, ladder, viral, adoption.attributed, adoption.stale_stage, history, rates = row
        adoption.first_at = dict(first_at)
        adoption.ladder = _read_ladder(ladder)
        adoption.viral = unpack(viral).astype(np.bool_)
        adoption.history = [tuple(h) for h in history]
        adoption.rates = tuple(rates)

    def _restore_log(self, rows: list[tuple[list[Any], Any]]) -> None:
        judged = self.state.judged
        for (number,), (kind, window, source, base, ends, cells, deltas) in sorted(rows):
            entries = Entries(unpack(ends) * TICK + base, unpack(cells), np.stack([unpack(d) for d in deltas], axis=1))
            self._log_rows[number] = int(entries.ends[-1])
            self._next_row = number + 1
            self._kinds[kind].windows[window].restore(source, entries)
        for measures in self._kinds.values():
            for figures in measures.windows.values():
                figures.restored(judged)
                self.state.schedule(figures.waiting())


def _ladder(ladder: Ladder) -> list[object]:
    return [pack(ladder.level.astype(np.int64)), pack(ladder.direction.astype(np.int64)), pack(ladder.pending_at)]


def _read_ladder(row: list[Any]) -> Ladder:
    level, direction, pending_at = (unpack(part) for part in row)
    return Ladder(level.astype(np.int8), direction.astype(np.int8), pending_at)
