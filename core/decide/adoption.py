"""Adoption of a product's features: stages and viral flags at the stage window's ends, and the rows of every window.

Decisions use version 0; rows show the newest figures. A row is written when its figures, its target, its stage or its
viral flag changed, and once more at the next kept end after a correction, so that carrying rows forward stays right.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import fsum

import numpy as np

from core.batch import Int64s
from core.decide.explain import detection_id
from core.decide.ladder import STAGES, Ladder, Levels
from core.decide.measures import EVENTS, ORGANIC, USERS, Measures
from core.decide.rows import AdoptionOut
from core.decide.slots import GRID, next_end, slot
from schemas.definitions import Product
from schemas.detections import Detection, StageEntered, ViralEntered
from schemas.envelope import subject
from schemas.registers import WINDOWS

KEEP_MS = 1_200_000
"""How far behind the judged time history is kept for corrections: twice the default grace."""


@dataclass(slots=True)
class OpenSlot:
    """The slot of a window that is being filled: which features have news, and since which end."""

    slot: int = 0
    changed: dict[int, int] = field(default_factory=dict)
    """Cell → the end at which its row last changed."""


class Adoption:
    """What DECIDE knows of the adoption of one product."""

    def __init__(self, tenant: str, product: str, usage: Measures) -> None:
        self.tenant, self.product, self.usage = tenant, product, usage
        self.tables = True
        """Whether rows are made; where nobody is shown tables, none are."""
        self.first_at: dict[int, int] = {}
        """Feature's cell → the end from which on it has rows."""
        self.ladder = Ladder.of(16)
        self.viral = np.zeros(16, np.bool_)
        self.attributed = False
        """Whether the product has seen any attribution."""
        self.stale_stage = True
        """Whether the next stage end must be judged whatever changes."""
        self.history: list[tuple[int, int, int, bool]] = []
        """(end, cell, level before, viral before) of changes not older than the corrections."""
        self.rates: tuple[int, float, float] = (0, 0.0, 0.0)
        """Features with a rate, their mean rate and mean fulfilment, at the newest judged stage end."""
        self.touch: dict[str, dict[int, set[int]]] = {w: defaultdict(set) for w in WINDOWS}
        """Window → end → cells whose rows are due there although no figure need change; 0 stands for all."""
        self._ahead: list[tuple[int, str]] = []
        """Heap of (end, window) that corrections came for before it was judged."""
        self.slots = {w: OpenSlot() for w in WINDOWS}
        self.again: dict[tuple[str, int], set[int]] = defaultdict(set)
        """(window, judged end) → cells to publish again."""
        self.out: dict[tuple[str, int, int], AdoptionOut] = {}
        """(window, slot, cell) → the newest row of this step."""
        self.versions: dict[tuple[str, int], dict[int, int]] = {}
        """(window, slot) → cell → publications so far, less one."""
        self.dirty_versions: set[tuple[str, int]] = set()

    # --- ends -------------------------------------------------------------------------------------------------------

    def appear(self, cells: Iterable[int], end: int) -> set[int]:
        """Features seen for the first time at `end`; the ends at which their rows are due."""
        new = [c for c in cells if c and c not in self.first_at]
        for cell in new:
            self.first_at[cell] = end
        if not new:
            return set()
        self.stale_stage = True
        return self._touch_all(new, end)

    def _touch_all(self, cells: Iterable[int], end: int) -> set[int]:
        ends = {w: next_end(w, end) for w in WINDOWS}
        for window, at in ends.items():
            self.touch[window][at].update(cells)
        return set(ends.values())

    def mark(self, window: str, end: int, changed: Int64s, all_changed: bool) -> None:
        """Note which rows of this window have news at `end`; `all_changed`: the product's own users changed."""
        cells = self.touch[window].pop(end, None)
        if cells is None:
            if not all_changed and not len(changed):
                return
            cells = set()
        cells.update(changed.tolist())
        if all_changed or 0 in cells:
            cells = set(self.first_at)
        open_slot = self.slots[window]
        open_slot.slot = slot(window, end)
        for cell in cells:
            if cell in self.first_at:
                open_slot.changed[cell] = end

    def judge_stage(self, cfg: Product, end: int) -> tuple[list[Detection], set[int]]:
        """Judge stages and viral flags at an end of the stage window; the findings, and the ends now due."""
        window = cfg.stage_window
        totals = self.usage.windows[window].totals
        self.stale_stage = False
        self.ladder.grow(len(totals))
        if len(self.viral) < len(totals):
            self.viral = np.concatenate([self.viral, np.zeros(len(totals) - len(self.viral), np.bool_)])
        self.attributed |= bool(totals[0, ORGANIC] < totals[0, USERS])
        which = np.array(sorted(self.first_at), np.int64)
        if not len(which):
            return [], set()
        users, organic = totals[which, USERS], totals[which, ORGANIC]
        target = cfg.target_users or int(totals[0, USERS])
        enough = target >= cfg.min_target_users and target > 0
        rates = users / target if enough else np.full(len(which), np.nan)
        self._summarise(rates, cfg.adoption_full, enough)
        shares = organic / np.maximum(users, 1)
        viral = (shares > cfg.viral_border) & (users >= cfg.viral_min_adopters) & self.attributed
        turned = which[viral != self.viral[which]]
        levels = self.ladder.level.copy()
        self._flush_open(cfg, end)
        climbed, _ = self.ladder.judge(which, rates, end, WINDOWS[window][1], cfg.stage_borders, cfg.margin)
        moved = set(climbed.tolist()) | set(turned.tolist())
        self.history += [(end, c, int(levels[c]), bool(self.viral[c])) for c in sorted(moved)]
        self.viral[which] = viral
        found = self._findings(cfg, end, set(climbed.tolist()), set(turned.tolist()), levels, target, enough)
        ends = self._touch_all(moved, end) if moved else set()
        if self.ladder.any_pending():
            ends.add(end + WINDOWS[window][1])
        return found, ends

    def _summarise(self, rates: np.ndarray[tuple[int], np.dtype[np.float64]], full: float, enough: bool) -> None:
        if not enough:
            self.rates = (0, 0.0, 0.0)
            return
        n = len(rates)  # fsum: the same whatever the order of the features
        self.rates = (n, fsum(rates.tolist()) / n, fsum(np.minimum(1.0, rates / full).tolist()) / n)

    def _findings(
        self, cfg: Product, end: int, climbed: set[int], turned: set[int], before: Levels, target: int, enough: bool
    ) -> list[Detection]:
        window = cfg.stage_window
        totals, names = self.usage.windows[window].totals, self.usage.names
        found: list[Detection] = []
        for cell in sorted(climbed | turned, key=names.__getitem__):
            users, organic = int(totals[cell, USERS]), int(totals[cell, ORGANIC])
            feature = names[cell]
            about = subject("feature", feature)
            rate = users / target if enough else None
            share = organic / users if users else None
            span = {"window": window, "window_start": end - WINDOWS[window][0], "window_end": end}
            common = {"tenant": self.tenant, "product": self.product, "subject": about, "at": end, "feature": feature}
            common |= {"users": users, "target_users": target, "rate": rate, "organic_share": share, **span}
            if cell in climbed and self.ladder.level[cell]:
                found.append(
                    StageEntered.model_validate(
                        {
                            "id": detection_id("stage_entered", self.tenant, self.product, about, end),
                            "stage": STAGES[int(self.ladder.level[cell])],
                            "previous": STAGES[int(before[cell])],
                            **common,
                        }
                    )
                )
            if cell in turned and self.viral[cell]:
                found.append(
                    ViralEntered.model_validate(
                        {"id": detection_id("viral_entered", self.tenant, self.product, about, end), **common}
                    )
                )
        return found

    # --- rows -------------------------------------------------------------------------------------------------------

    def correct(self, window: str, end: int, cells: Int64s, judged: int) -> None:
        """A correction came for `end`: rows of it and of the kept end after it have news. It makes no end due, for whether it came
        before or after those were judged is chance.
        """
        for at in (end, end + GRID[window]):
            if at <= judged:
                self.again[window, at].update(cells.tolist())
            else:
                self.touch[window][at].update(cells.tolist())
                heapq.heappush(self._ahead, (at, window))

    def passed(self, judged: int) -> None:
        """Every end up to `judged` is judged: what was corrected of those that were not due is published again."""
        while self._ahead and self._ahead[0][0] <= judged:
            at, window = heapq.heappop(self._ahead)
            cells = self.touch[window].pop(at, None)
            if cells is not None:
                self.again[window, at].update(cells)

    def restored(self) -> None:
        """`touch` is as it was."""
        self._ahead = [(at, window) for window, ends in self.touch.items() for at in ends]
        heapq.heapify(self._ahead)

    def flush_over(self, window: str, end: int, cfg: Product) -> None:
        """Fix the rows of a slot that `end` is no longer part of."""
        if self.slots[window].changed and self.slots[window].slot != slot(window, end):
            self._flush(window, cfg)

    def _flush_open(self, cfg: Product, end: int) -> None:
        """Rows of windows that do not end now show the stages that were in force until now."""
        for window, (_, step) in WINDOWS.items():
            if end % step and self.slots[window].changed:
                self._flush(window, cfg)

    def flush(self, cfg: Product) -> Iterable[AdoptionOut]:
        """Every row that has news, the newest of each key, with its version (the end of a step)."""
        for window in WINDOWS:
            if self.slots[window].changed:
                self._flush(window, cfg)
        self._publish_again(cfg)
        for (window, at, cell), row in self.out.items():
            counts = self.versions.setdefault((window, at), {})
            row.version = counts[cell] = counts.get(cell, -1) + 1
            self.dirty_versions.add((window, at))
        rows = list(self.out.values())
        self.out.clear()
        return rows

    def _flush(self, window: str, cfg: Product) -> None:
        if not self.tables:
            self.slots[window].changed = {}
            return
        figures = self.usage.windows[window]
        sums = figures.corrected(figures.totals.copy(), figures.judged) if figures.judged in figures.fixes else None
        open_slot = self.slots[window]
        self._rows(window, open_slot.changed, figures.totals if sums is None else sums, {}, cfg)
        open_slot.changed = {}

    def _publish_again(self, cfg: Product) -> None:
        if not self.tables:
            self.again.clear()
            return
        by_window: dict[str, list[int]] = defaultdict(list)
        for window, end in self.again:
            by_window[window].append(end)
        for window, ends in by_window.items():
            sums = self.usage.windows[window].newest(ends)
            for end in ends:
                cells = self.again[window, end]
                if 0 in cells:
                    cells = set(self.first_at)
                listed = {c: end for c in cells if self.first_at.get(c, end + 1) <= end}
                self._rows(window, listed, sums[end], self._before(end), cfg)
        self.again.clear()

    def _before(self, end: int) -> dict[int, tuple[int, bool]]:
        """Stage and viral flag in force at a past end, where they have changed since."""
        past: dict[int, tuple[int, bool]] = {}
        for at, cell, level, viral in reversed(self.history):
            if at <= end:
                break
            past[cell] = (level, viral)
        return past

    def _rows(
        self, window: str, cells: dict[int, int], sums: Int64s, past: dict[int, tuple[int, bool]], cfg: Product
    ) -> None:
        """Rows of these cells at these ends."""
        length, names = WINDOWS[window][0], self.usage.names
        which = np.fromiter(cells, np.int64, len(cells))
        figures = sums[which].tolist()
        levels, viral = self.ladder.level, self.viral
        target = cfg.target_users or int(sums[0, USERS])
        enough = target > 0 and target >= cfg.min_target_users
        for (cell, end), figure in zip(cells.items(), figures, strict=True):
            users, organic = figure[USERS], figure[ORGANIC]
            now = past.get(cell)
            if now is None:
                now = (int(levels[cell]), bool(viral[cell])) if cell < len(levels) else (0, False)
            self.out[window, slot(window, end), cell] = AdoptionOut(
                self.tenant,
                self.product,
                names[cell],
                window,
                end - length,
                end,
                users,
                figure[EVENTS],
                target,
                users / target if enough else None,
                organic / users if users else None,
                STAGES[now[0]],
                now[1],
                0,
            )

    def forget(self, until: int) -> list[tuple[str, int]]:
        """Drop what only corrections of ends at or before `until` would need; the version counters that went."""
        self.history = [h for h in self.history if h[0] > until]
        gone = [k for k in self.versions if k[1] <= until]
        for k in gone:
            del self.versions[k]
        return gone
