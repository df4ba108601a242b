"""Health of one product: the band ladder, the trend's memory, and the row of each end of the health window."""

from __future__ import annotations

import numpy as np

from core.batch import Int64s
from core.decide.explain import detection_id
from core.decide.health import Health, Inputs, assess
from core.decide.ladder import BANDS, Ladder
from core.decide.measures import (
    ERRORS,
    RATING_SUM,
    RATINGS,
    REQUESTS,
    SATISFIED,
    TOLERATING,
    USERS,
    Measures,
)
from core.decide.rows import HealthOut, plain
from core.decide.slots import slot
from core.people.profile import UNIT
from schemas.definitions import Product
from schemas.detections import BandEntered
from schemas.envelope import subject
from schemas.registers import WINDOWS

_DAY = 86_400_000
_ONE = np.zeros(1, np.int64)


class Vitals:
    """What DECIDE knows of the health of one product."""

    def __init__(self, tenant: str, product: str, usage: Measures, performance: Measures, feedback: Measures) -> None:
        self.tenant, self.product = tenant, product
        self.usage, self.performance, self.feedback = usage, performance, feedback
        self.ladder = Ladder.of(1)
        self.trend: list[tuple[int, int]] = []
        """(end, active users of a day) where they changed; one older than a day is kept."""
        self.score: float | None = None
        self.components: dict[str, float] = {}
        """Scores of the components at the newest judged end."""
        self.shown: str = ""
        """What the last row said, to publish only news."""
        self.version: tuple[int, int] = (0, -1)
        """(slot, publications less one) of the newest slot."""
        self.out: dict[int, HealthOut] = {}
        """Slot → the newest row of this step."""
        self.scores: dict[str, float] = {}
        """Component scores of this step, for the gauges."""

    def judge(self, cfg: Product, end: int, rates: tuple[int, float, float]) -> tuple[list[BandEntered], set[int]]:
        """Judge one end of the health window; the finding, and the ends now due."""
        step = WINDOWS[cfg.health_window][1]
        health = assess(self._inputs(cfg, end, rates), cfg)
        self.score = health.score
        self.components = {n: c.score for n, c in health.components.items()}
        value = np.array([np.nan if health.score is None else health.score])
        changed, before = self.ladder.judge(_ONE, value, end, step, cfg.band_borders, cfg.band_margin)
        band = BANDS[int(self.ladder.level[0])]
        said = repr((health.score, band, health.components, health.missing))
        if said != self.shown:
            self.shown = said
            self.scores = {n: c.score for n, c in health.components.items()}
            self.out[slot(cfg.health_window, end)] = HealthOut(
                self.tenant, self.product, end, health.score, band, plain(health.components), health.missing, 0
            )
        due = {end + step} if self.ladder.any_pending() else set()
        if self.trend and self.trend[-1][0] == end:
            due.add(end + _DAY)
        if not len(changed) or band == "no_data":
            return [], due
        return [self._entered(cfg, end, health, BANDS[int(before[0])])], due

    def _inputs(self, cfg: Product, end: int, rates: tuple[int, float, float]) -> Inputs:
        requests: Int64s = self.performance.windows[cfg.health_window].totals[0]
        rated: Int64s = self.feedback.windows[cfg.health_window].totals[0]
        ratings = int(rated[RATINGS])
        now = self._active("1d")
        if now != (self.trend[-1][1] if self.trend else 0):
            self.trend.append((end, now))
        while len(self.trend) > 1 and self.trend[1][0] <= end - _DAY:
            del self.trend[0]
        before = self.trend[0][1] if self.trend and self.trend[0][0] <= end - _DAY else 0
        return Inputs(
            requests=int(requests[REQUESTS]),
            errors=int(requests[ERRORS]),
            satisfied=int(requests[SATISFIED]),
            tolerating=int(requests[TOLERATING]),
            features=rates[0],
            mean_rate=rates[1],
            mean_fulfilment=rates[2],
            dau=now,
            mau=self._active("28d"),
            ratings=ratings,
            mean_rating=int(rated[RATING_SUM]) / UNIT / ratings if ratings else 0.0,
            now=now,
            before=before,
        )

    def _active(self, window: str) -> int:
        return int(self.usage.windows[window].totals[0, USERS])

    def _entered(self, cfg: Product, end: int, health: Health, before: str) -> BandEntered:
        about = subject("product", self.product)
        window = cfg.health_window
        return BandEntered.model_validate(
            {
                "id": detection_id("band_entered", self.tenant, self.product, about, end),
                "tenant": self.tenant,
                "product": self.product,
                "subject": about,
                "at": end,
                "band": BANDS[int(self.ladder.level[0])],
                "previous": before,
                "score": health.score,
                "components": {n: c.score for n, c in health.components.items()},
                "weakest": health.weakest,
                "window": window,
                "window_start": end - WINDOWS[window][0],
                "window_end": end,
            }
        )

    def flush(self) -> list[HealthOut]:
        """Every row that has news, the newest of each slot, with its version (the end of a step)."""
        rows = []
        for at, row in sorted(self.out.items()):
            last, count = self.version
            row.version = count + 1 if at == last else 0
            self.version = (at, row.version)
            rows.append(row)
        self.out.clear()
        return rows
