"""Which probabilities cross their limit, from the folded log (`docs/semantics.md` §4, Predictions): users as plain sets of days."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.oracle.judged import Found, identity
from app.oracle.likelihood import Cell, Measure, folds_of, likeliest, measured, said_of
from app.oracle.partition import Folded

DAY = 86_400_000
LOOKED_AT, KEPT = 28, 32
"""Days that are looked back to, and that are kept of a user up to their last one: after a silence, fewer are left to be looked at."""
FEWEST, MOST = 200, 20_000
"""Users from whom is learnt."""


@dataclass(slots=True)
class Person:
    """What is known of one user of one product, in days since the epoch."""

    name: str
    first: int = 1 << 40
    last: int = -1
    days: set[int] = field(default_factory=set)
    used: dict[str, int] = field(default_factory=dict)
    """Feature → the day of its first use."""

    def came(self, day: int, features: Iterable[str]) -> None:
        """They did something on this day."""
        self.first, self.last = min(self.first, day), max(self.last, day)
        self.days.add(day)
        for feature in features:
            self.used[feature] = min(self.used.get(feature, day), day)

    def seen(self, start: int, stop: int) -> list[int]:
        """The days with anything, from `start` to before `stop`, that are kept."""
        return [d for d in range(max(start, self.last - KEPT + 1), stop) if d in self.days]

    def stands(self, day: int, far: int) -> Cell:
        """Age, gap and active days at the beginning of a day."""
        seen = self.seen(day - far, day)
        return min(far, max(0, day - self.first)), day - 1 - seen[-1] if seen else far, len(seen)


@dataclass(slots=True)
class Alarm:
    """One user's place beside the limit."""

    since: int | None = None
    fired: bool = False
    back: int | None = None

    def judge(self, value: float, at: int, of: Mapping[str, Any]) -> str | None:
        """At the end of a day; the edge."""
        limit = of["limit"]
        if not self.fired:
            self.since = (self.since or at) if value > limit else None
            if self.since is None or at - self.since < 1000 * of.get("for_s", 0):
                return None
            self.fired = True
            return "crossed"
        if value > (of.get("clear_limit") or limit):
            self.back = None if value > limit or self.back is None else at
            return None
        self.back = self.back or at
        if at - self.back < 1000 * of.get("keep_firing_for_s", 0):
            return None
        self.since, self.fired, self.back = None, False, None
        return "cleared"


def foreseen(parts: Iterable[Folded], predictions: Sequence[Mapping[str, Any]]) -> list[Found]:
    """All edges, in order of time. `predictions` are plain JSON objects, as they stand on their topic."""
    out: list[Found] = []
    for part in parts:
        for number, (tenant, product) in enumerate(part.products if not part.performance else ()):
            named: dict[str, Mapping[str, Any]] = {}
            for p in sorted(predictions, key=lambda p: p.get("tenant", "all") == tenant):
                if p.get("tenant", "all") in ("all", tenant) and p.get("product") in (None, product):
                    named[p["name"]] = p
            series = [_Series(tenant, product, named[name]) for name in sorted(named)]
            for day, people in _days(part, number) if series else ():
                out += [found for one in series for found in one.judge(day, people)]
    return sorted(out, key=lambda f: f.at)


def _days(part: Folded, number: int) -> Iterator[tuple[int, list[Person]]]:
    """Each day that begins when the product's watermark passes its midnight, with everybody as known by then, by first sight."""
    people: dict[int, Person] = {}
    rows = np.flatnonzero(part.product == number)
    reached = -1
    columns = (c[rows].tolist() for c in (part.user, part.name, part.at, part.told, part.watermark))
    before = 0
    for user, name, at, told, after in zip(*columns, strict=True):
        # Markers that were read since the row before ended days without this row.
        yield from _ended(reached, before := max(before, told), people)
        reached = max(reached, before // DAY)
        one = people.setdefault(user, Person(part.users[user]))
        one.came(at // DAY, [part.names[name]] if name >= 0 else [])
        if len(people) == 1 and reached < 0:
            reached = after // DAY
        before = max(before, after)
        yield from _ended(reached, before, people)
        reached = max(reached, before // DAY)
    last = max(before, part.held.get(part.products[number], part.clock))
    yield from _ended(reached, last, people)


def _ended(reached: int, watermark: int, people: dict[int, Person]) -> Iterator[tuple[int, list[Person]]]:
    today = watermark // DAY
    if people and today > reached:
        everybody = [people[user] for user in sorted(people)]
        for day in range(max(reached + 1, today - LOOKED_AT), today + 1):
            yield day, everybody


class _Series:
    """One prediction of one product in one partition."""

    def __init__(self, tenant: str, product: str, of: Mapping[str, Any]) -> None:
        self._tenant, self._product, self._of = tenant, product, of
        self._horizon: int = of.get("horizon_days", 7)
        self._feature: str | None = of.get("feature")
        self._fitted: dict[int, list[float]] = {}
        self._measure: Measure | None = None
        self._outcomes: Measure | None = None
        self._alarms: dict[str, Alarm] = {}

    def judge(self, day: int, people: list[Person]) -> Iterator[Found]:
        """What crossed or cleared as this day began."""
        if day * DAY < self._of.get("effective_from", 0):
            return
        horizon, then = self._horizon, day - self._horizon
        far = LOOKED_AT - horizon
        asked = [p for p in people if self._about(p, then)]
        stood = [p.stands(then, far) for p in asked]
        true = [self._true(p, then) for p in asked]
        weights = self._fitted.pop(then, None)
        if weights is not None and len(asked) >= FEWEST:
            self._outcomes = measured("outcomes", then * DAY, said_of(weights, stood), true)
        nth = 1 + len(asked) // MOST
        stood, true = stood[::nth], true[::nth]
        if len(true) < FEWEST or min(sum(true), len(true) - sum(true)) < 5:
            return
        self._fitted[day] = fitted = likeliest(stood, true)
        self._measure = self._outcomes or measured("folds", then * DAY, folds_of(stood, true), true)
        if self._measure.error > self._of.get("max_error", 0.05) or self._measure.brier >= self._measure.base_brier:
            return
        now = {p.name: p.stands(day, far) for p in people if self._about(p, day)}
        said = dict(zip(now, said_of(fitted, list(now.values())), strict=True))
        self._alarms = {name: alarm for name, alarm in self._alarms.items() if name in now}
        for name in sorted(now):
            alarm = self._alarms.setdefault(name, Alarm())
            edge = alarm.judge(said[name], day * DAY, self._of)
            if edge is not None:
                yield self._found(name, edge, day * DAY, said[name], now[name], self._measure)

    def _about(self, person: Person, day: int) -> bool:
        used = None if self._feature is None else person.used.get(self._feature)
        recent = person.seen(day - LOOKED_AT + self._horizon, day)
        return person.first < day and bool(recent) and (used is None or used >= day)

    def _true(self, person: Person, day: int) -> bool:
        """Of somebody asked about at the beginning of this day."""
        if self._of.get("model", "inactivity") == "conversion":
            return person.used.get(self._feature or "", day + self._horizon) < day + self._horizon
        return not person.seen(day, day + self._horizon)

    def _found(self, user: str, edge: str, at: int, said: float, stands: Cell, measure: Measure) -> Found:
        kind, who = f"prediction_{edge}", f"user:{user}"
        facts = {
            "prediction": self._of["name"],
            "model": self._of.get("model", "inactivity"),
            "feature": self._feature,
            "horizon_days": self._horizon,
            "probability": said,
            "limit": self._of["limit"],
            "age_days": stands[0],
            "gap_days": stands[1],
            "active_days": stands[2],
            "measured": measure.by,
            "measured_at": measure.at,
            "measured_users": measure.users,
            "calibration_error": measure.error,
            "brier": measure.brier,
            "base_brier": measure.base_brier,
            "auc": measure.auc,
        }
        ident = identity("detection", self._tenant, self._product, kind, who, str(at), self._of["name"])
        return Found(ident, kind, self._tenant, self._product, who, at, facts)
