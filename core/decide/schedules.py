"""Schedules of one product: when each is due next, and what is done about times that were missed. In event time.

A time due is an end like any other: it is judged once, when every source has passed it, after all ends before it. Whether it was
missed is told by the log too: by the broker's time of the record that brought event time there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.decide.explain import detection_id
from core.rules.moments import local
from schemas.conditions import known_zone
from schemas.definitions import OnSchedule
from schemas.detections import ScheduleDue
from schemas.envelope import subject

LATE_MS: Final = 3_600_000
"""A time reached more than this after it (by the broker's clock) was missed."""
CAUGHT_UP_MS: Final = 31 * 86_400_000
"""How far back `catch_up: all` goes."""
_DAY_MS: Final = 86_400_000


class Schedules:
    """Where the schedules of one product stand. A schedule counts from the end judged when it was first seen."""

    def __init__(self, tenant: str, product: str) -> None:
        self.tenant, self.product = tenant, product
        self.heard = 0
        """Broker time of the newest record."""
        self._known: dict[str, OnSchedule] = {}
        self._last: dict[str, int] = {}
        """Name → the last time that was dealt with."""
        self._planned: dict[str, int] = {}
        """Name → the next time to deal with."""
        self._restored = False
        """Whether what was taken back has still to meet the definitions in force."""
        self._born = False
        """Whether an end of the product has been judged."""
        self._open: set[str] = set()
        """Those that have to be planned."""
        self._soonest: int | None = None
        """Of the times that are planned."""

    def configure(self, known: Mapping[str, OnSchedule], judged: int) -> None:
        """The schedules in force from now on; those that changed are planned anew."""
        if known == self._known and not self._restored:
            return
        self._restored = False
        for name, schedule in self._known.items():
            if known.get(name) != schedule:
                self._planned.pop(name, None)
        self._known = dict(known)
        for of in (self._last, self._planned):
            for name in [n for n in of if n not in known]:
                del of[name]
        if self._born:
            for name in known:
                self._last.setdefault(name, judged)
        self._open = {name for name in self._last if name not in self._planned}
        self._soonest = min(self._planned.values(), default=None)

    def plan(self) -> list[int]:
        """The ends at which something will be due, of schedules that had none planned."""
        if not self._open:
            return []
        ends = []
        for name in self._open:
            end = self._next(self._known[name], self._last[name])
            if end is not None:  # else it is never due again
                self._planned[name] = end
                ends.append(end)
        self._open.clear()
        self._soonest = min(ends, default=self._soonest) if self._soonest is None else min([self._soonest, *ends])
        return ends

    def judge(self, end: int, score: float | None) -> list[ScheduleDue]:
        """What is due at this end, in order of name. `score`: the product's health. `plan` again afterwards."""
        if not self._born:
            self._born = True
            for name in self._known:
                self._last.setdefault(name, end)
            self._open = set(self._last)
        if self._soonest is None or end < self._soonest:
            return []
        found = []
        for name in sorted(n for n, at in self._planned.items() if at <= end):
            del self._planned[name]
            self._last[name] = end
            self._open.add(name)
            late = end < self.heard - LATE_MS
            if not late or self._caught_up(self._known[name], end):
                found.append(self._due(name, end, late, score))
        self._soonest = min(self._planned.values(), default=None)
        return found

    def row(self) -> list[object]:
        """What a checkpoint keeps."""
        return [self._born, sorted(self._last.items()), sorted(self._planned.items())]

    def restore(self, row: list[Any]) -> None:
        """Take back what a checkpoint kept; `configure` follows."""
        self._born, last, planned = row[0], row[1], row[2]
        self._last, self._planned, self._restored = dict(last), dict(planned), True

    def _caught_up(self, schedule: OnSchedule, end: int) -> bool:
        match schedule.catch_up:
            case "skip":
                return False
            case "once":  # the last one that was missed stands for all of them
                following = schedule.after(end)
                return following is None or following >= self.heard - LATE_MS
            case "all":
                return True

    def _next(self, schedule: OnSchedule, last: int) -> int | None:
        missed = self.heard - LATE_MS
        match schedule.catch_up:
            case "skip":
                return schedule.after(max(last, missed - 1))
            case "once":
                newest = schedule.before(missed) if missed > last else None
                return newest if newest is not None and newest > last else schedule.after(last)
            case "all":
                return schedule.after(max(last, self.heard - CAUGHT_UP_MS))

    def _due(self, name: str, end: int, late: bool, score: float | None) -> ScheduleDue:
        about = subject("product", self.product)
        zone = self._known[name].zone
        return ScheduleDue.model_validate(
            {
                "id": detection_id("schedule_due", self.tenant, self.product, about, end, name),
                "tenant": self.tenant,
                "product": self.product,
                "subject": about,
                "at": end,
                "schedule": name,
                "due": f"{local(end, known_zone(zone)):%Y-%m-%d %H:%M}",
                "zone": zone,
                "late": late,
                "score": score,
                "window": "1d",
                "window_start": end - _DAY_MS,
                "window_end": end,
            }
        )
