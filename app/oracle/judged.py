"""Everything that follows from the figures: rows, stages, bands, detections (`docs/semantics.md` §4)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from app.oracle.figures import DAY, NO_REQUESTS, NO_USE, WINDOWS, Figures, Product, Use
from app.oracle.ladders import BANDS, NO_DATA, STAGES, Ladder

NAMESPACE = uuid.UUID("6a1d3c52-64a4-5b0e-9a3e-5f6b7f4f2b11")
WEIGHTS = {
    "reliability": 0.25,
    "responsiveness": 0.20,
    "adoption": 0.20,
    "engagement": 0.15,
    "satisfaction": 0.10,
    "trend": 0.10,
}


@dataclass(frozen=True, slots=True)
class Rules:
    """A product's numbers, as far as they are not fixed by the text."""

    stage_window: str = "7d"
    health_window: str = "1d"
    target_users: int | None = None
    min_target_users: int = 20
    listed: tuple[str, ...] = ()
    """Features that have rows before anybody used them."""


def identity(*parts: str) -> str:
    """The id made of these parts."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(parts)))


@dataclass(frozen=True, slots=True)
class Found:
    """A detection."""

    id: str
    kind: str
    tenant: str
    product: str
    subject: str
    at: int
    facts: dict[str, Any]


@dataclass(slots=True)
class Stages:
    """A product's stage and viral flag of each feature, by end of the stage window."""

    by_end: dict[int, dict[str, tuple[str, bool]]] = field(default_factory=dict)

    def at(self, feature: str, end: int) -> tuple[str, bool]:
        """What is in force at an end of any window."""
        judged = [e for e in self.by_end if e <= end]
        return self.by_end[max(judged)].get(feature, (NO_DATA, False)) if judged else (NO_DATA, False)


class Judge:
    """Judges all ends up to the log's clock, product by product. `ratings`: when people rated a product, and how (1 to 5), all of them
    read on time.
    """

    def __init__(
        self,
        figures: Figures,
        rules: dict[Product, Rules] | None = None,
        *,
        with_health: bool = True,
        ratings: Mapping[Product, Sequence[tuple[int, float]]] | None = None,
    ) -> None:
        self.figures = figures
        self._ratings = ratings or {}
        self._with_health = with_health
        self._rules = rules or {}
        self.stages: dict[Product, Stages] = {p: Stages() for p in figures.products}
        self.health: dict[tuple[Product, int], dict[str, Any]] = {}
        """(product, end) → score, band, components, missing."""
        self.found: list[Found] = []
        """Detections in the order in which they are judged, product by product."""
        self._usage: dict[tuple[str, int], dict[Product, dict[str, Use]]] = {}
        for product in figures.products:
            if product in figures.began:
                self._judge(product)

    def rules(self, product: Product) -> Rules:
        """A product's numbers."""
        return self._rules.get(product, Rules())

    def features(self, product: Product, end: int) -> list[str]:
        """Those that have rows at an end, by name."""
        listed = self.rules(product).listed
        seen = (f for (p, f), first in self.figures.appeared.items() if p == product and first <= end)
        return sorted({*listed, *seen})

    def adoption(self, window: str, end: int) -> dict[tuple[Product, str], dict[str, Any]]:
        """The rows of the table at an end, from the newest figures."""
        figures = self.figures.usage(window, end, newest=True)
        out = {}
        for product in self.figures.products:
            target = self._target(product, figures[product])
            for feature in self.features(product, end):
                use = figures[product].get(feature, NO_USE)
                stage, viral = self.stages[product].at(feature, end)
                out[product, feature] = {
                    "users": use.users,
                    "events": use.events,
                    "target_users": target,
                    "adoption_rate": self._rate(product, use.users, target),
                    "organic_share": use.organic / use.users if use.users else None,
                    "stage": stage,
                    "viral": viral,
                }
        return out

    # --- judging ----------------------------------------------------------------------------------------------------

    def _target(self, product: Product, figures: dict[str, Use]) -> int:
        fixed = self.rules(product).target_users
        return fixed if fixed is not None else figures.get("*", NO_USE).users

    def _rate(self, product: Product, users: int, target: int) -> float | None:
        return users / target if target >= self.rules(product).min_target_users else None

    def _on_time(self, window: str, end: int, product: Product) -> dict[str, Use]:
        if (window, end) not in self._usage:
            self._usage[window, end] = self.figures.usage(window, end, newest=False)
        return self._usage[window, end][product]

    def _judge(self, product: Product) -> None:
        rules = self.rules(product)
        windows = (rules.stage_window, rules.health_window) if self._with_health else (rules.stage_window,)
        lengths = {w: WINDOWS[w] for w in windows}
        began = self.figures.began[product]
        ends = {
            (end, length, window)
            for window, (length, step) in lengths.items()
            for end in range(-(-began // step) * step, self.figures.clock_of(product) + 1, step)
        }
        stage_of: dict[str, Ladder] = {}
        band = Ladder(BANDS, (40.0, 60.0, 80.0), 2.0, WINDOWS[rules.health_window][1])
        viral: set[str] = set()
        attributed = False
        rates: list[float] = []
        for end, _, window in sorted(ends):
            if window == rules.stage_window:
                figures = self._on_time(window, end, product)
                everyone = figures.get("*", NO_USE)
                attributed = attributed or everyone.organic < everyone.users
                viral, rates = self._stage(product, end, figures, stage_of, viral, attributed)
            if not self._with_health:
                continue
            if window == rules.health_window:
                # Within one end, stages come first whatever the windows' lengths; longer stage windows end on it too.
                if rules.stage_window != window and end % lengths[rules.stage_window][1] == 0:
                    continue
                self._health(product, end, rates, band)
            elif end % lengths[rules.health_window][1] == 0:
                self._health(product, end, rates, band)

    def _stage(
        self,
        product: Product,
        end: int,
        figures: dict[str, Use],
        stage_of: dict[str, Ladder],
        viral: set[str],
        attributed: bool,
    ) -> tuple[set[str], list[float]]:
        rules, target = self.rules(product), self._target(product, figures)
        window = rules.stage_window
        now_viral, rates, states = set(), [], {}
        for feature in self.features(product, end):
            use = figures.get(feature, NO_USE)
            rate, share = self._rate(product, use.users, target), use.organic / use.users if use.users else None
            if rate is not None:
                rates.append(rate)
            ladder = stage_of.setdefault(feature, Ladder(STAGES, (0.2, 0.6), 0.02, WINDOWS[window][1]))
            before = ladder.judge(rate, end)
            facts = {
                "feature": feature,
                "users": use.users,
                "adopters": use.users,
                "non_adopters": max(0, target - use.users),
                "target_users": target,
                "active_users": figures.get("*", NO_USE).users,
                "rate": rate,
                "organic_share": share,
                "window": window,
                "window_start": end - WINDOWS[window][0],
                "window_end": end,
            }
            if before is not None and ladder.at != NO_DATA:
                self._find(
                    "stage_entered",
                    product,
                    f"feature:{feature}",
                    end,
                    facts | {"stage": ladder.at, "previous": before},
                )
            if share is not None and share > 0.8 and use.users >= 20 and attributed:
                now_viral.add(feature)
                if feature not in viral:
                    self._find("viral_entered", product, f"feature:{feature}", end, facts)
            states[feature] = (ladder.at, feature in now_viral)
        self.stages[product].by_end[end] = states
        return now_viral, rates

    def _health(self, product: Product, end: int, rates: list[float], band: Ladder) -> None:
        window = self.rules(product).health_window
        components = self._components(product, window, end, rates)
        weight = fsum(WEIGHTS[name] for name in components)
        score = None
        if weight * 2 >= fsum(WEIGHTS.values()) - 1e-12:
            score = fsum(WEIGHTS[name] * value for name, (value, _) in components.items()) / weight
        before = band.judge(score, end)
        self.health[product, end] = {
            "score": score,
            "band": band.at,
            "components": {
                name: {"score": value, "weight": WEIGHTS[name] / weight, "inputs": inputs}
                for name, (value, inputs) in components.items()
            },
        }
        if before is not None and band.at != NO_DATA:
            facts = {
                "band": band.at,
                "previous": before,
                "score": score,
                "active_users": self._on_time(window, end, product).get("*", NO_USE).users,
                "components": {name: value for name, (value, _) in components.items()},
                "weakest": min(components, key=lambda name: (components[name][0], list(WEIGHTS).index(name))),
                "window": window,
                "window_start": end - WINDOWS[window][0],
                "window_end": end,
            }
            self._find("band_entered", product, f"product:{product[1]}", end, facts)

    def _components(
        self, product: Product, window: str, end: int, rates: list[float]
    ) -> dict[str, tuple[float, dict[str, float]]]:
        out: dict[str, tuple[float, dict[str, float]]] = {}
        all_requests = self._requests(window, end)[product].get("*", NO_REQUESTS)
        n = all_requests.requests
        if n:
            rate = all_requests.errors / n
            out["reliability"] = (
                100 * (1 - min(1, rate / (1 - 0.999))),
                {"requests": n, "errors": all_requests.errors, "error_rate": rate},
            )
            good, fair = all_requests.satisfied, all_requests.tolerating
            inputs = {"requests": n, "satisfied": good, "tolerating": fair, "t_ms": 300.0}
            out["responsiveness"] = 100 * (good + fair / 2) / n, inputs
        if rates:
            fulfilment = fsum(min(1, r / 0.6) for r in rates) / len(rates)
            out["adoption"] = 100 * fulfilment, {"features": len(rates), "mean_rate": fsum(rates) / len(rates)}
        dau = self._on_time(window, end, product).get("*", NO_USE).users
        mau = self._on_time("28d", end // DAY * DAY, product).get("*", NO_USE).users
        if mau:
            out["engagement"] = 100 * min(1, (dau / mau) / 0.4), {"dau": dau, "mau": mau}
        stars = [s for at, s in self._ratings.get(product, ()) if end - WINDOWS[window][0] <= at < end]
        if stars:
            mean = fsum(stars) / len(stars)
            out["satisfaction"] = 100 * (mean - 1) / 4, {"ratings": len(stars), "mean_rating": mean}
        before = self._on_time(window, end - DAY, product).get("*", NO_USE).users
        if before:
            change = max(-1.0, min(1.0, (dau - before) / before))
            out["trend"] = 50 + 50 * change, {"now": dau, "before": before}
        return out

    def _requests(self, window: str, end: int) -> dict[Product, Any]:
        if getattr(self, "_last", (None,))[0] != (window, end):
            self._last = ((window, end), self.figures.requests(window, end))
        return self._last[1]

    def _find(self, kind: str, product: Product, subject: str, end: int, facts: dict[str, Any]) -> None:
        tenant, name = product
        ident = identity("detection", tenant, name, kind, subject, str(end), "")
        common = {"id": ident, "tenant": tenant, "product": name, "subject": subject, "at": end, "kind": kind}
        self.found.append(Found(ident, kind, tenant, name, subject, end, common | facts))
