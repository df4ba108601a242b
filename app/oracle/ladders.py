"""Stages and bands: levels by borders, with a margin, and a hold of one step (`docs/semantics.md` §4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STAGES = ("low", "growth", "market")
BANDS = ("critical", "declining", "stable", "optimal")
NO_DATA = "no_data"


@dataclass(slots=True)
class Ladder:
    """One subject's place. `borders` has one fewer than `names`."""

    names: Sequence[str]
    borders: Sequence[float]
    margin: float
    step: int
    at: str = NO_DATA
    _pending: str = ""
    _since: int = 0

    def level(self, value: float | None) -> str:
        """The plain rule. The last border belongs to the level below it, each other to the level above."""
        if value is None:
            return NO_DATA
        if value > self.borders[-1]:
            return self.names[-1]
        passed = sum(value >= border for border in self.borders[:-1])
        return self.names[passed]

    def judge(self, value: float | None, end: int) -> str | None:
        """Judge at an end; the level left, where there was a change."""
        before, pending, since = self.at, self._pending, self._since
        self._pending = ""
        plain = self.level(value)
        if value is None or before == NO_DATA:
            self.at = plain
        elif plain != before:
            rank = self.names.index
            target, direction = before, ""
            if rank(self.level(value - self.margin)) > rank(before):
                target, direction = self.level(value - self.margin), "up"
            elif rank(self.level(value + self.margin)) < rank(before):
                target, direction = self.level(value + self.margin), "down"
            if direction and direction == pending and since == end - self.step:
                self.at = target
            elif direction:
                self._pending, self._since = direction, end
        return before if self.at != before else None
