"""Late data: findings whose figures were corrected after they were judged, looked at once more when no correction can come.

METER gives the newest figures of an end when it leaves grace; so a finding is looked at again then, once, and the same log gives the
same revisions however often corrections came in between. Only figures of use are corrected (health and performance never are).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from core.batch import Int64s
from core.decide.gauges import Gauges
from core.decide.measures import USERS
from core.decide.slots import next_end
from core.detect.threshold import is_past
from schemas.definitions import Product, Rule, Threshold
from schemas.detections import DETECTION, Detection, StageEntered, ThresholdCrossed
from schemas.envelope import subject
from schemas.registers import ALL
from schemas.tables import Stage

_LONGEST_MS = 1_140_000
"""History of figures is kept for twenty minutes of judged time."""
OF_USE = ("adoption_rate", "users", "events", "active_users", "events_per_user")
"""Metrics whose figures late rows correct."""


class Pending(NamedTuple):
    """A finding that led to commands of these rules, and when it is looked at again."""

    found: Detection
    active: int
    rules: tuple[str, ...]
    check: int
    corrected: Detection | None = None
    stands: bool = True
    looked: bool = False


class Revisions:
    """Findings of one product that may be corrected."""

    def __init__(self, product: str, gauges: Gauges) -> None:
        self._product, self._gauges = product, gauges
        self._open: list[Pending] = []
        self._new: list[Pending] = []
        """Of findings about which rules have not been asked yet."""

    def begin(self, found: Detection, active: int, rules: Iterable[Rule], cfg: Product) -> set[int]:
        """A finding that may become commands of these rules, of which some mind late data; the end at which it is looked at again."""
        wanted = tuple(r.name for r in rules if r.late != "drop")
        corrigible = isinstance(found, StageEntered) or (isinstance(found, ThresholdCrossed) and found.metric in OF_USE)
        if not wanted or not corrigible:
            return set()
        check = next_end("5m", found.at + min(cfg.grace_ms, _LONGEST_MS) + 1)
        self._new.append(Pending(found, active, wanted, check))
        return {check}

    def judge(self, end: int, cfg: Product, thresholds: Iterable[Threshold]) -> None:
        """Look again at what is due."""
        if not self._open and not self._new:
            return
        limits = {t.name: t for t in thresholds}
        for pending in (self._open, self._new):
            for i, one in enumerate(pending):
                if one.looked or one.check != end:
                    continue
                corrected, stands = self._again(one.found, cfg, limits)
                pending[i] = one._replace(corrected=corrected, stands=stands, looked=True)

    def settle(self, commanded: set[tuple[str, str]]) -> list[Pending]:
        """Rules have acted: which (detection, rule) gave a command. Findings that were looked at and say another thing now."""
        for one in self._new:
            rules = tuple(r for r in one.rules if (one.found.id, r) in commanded)
            if rules:
                self._open.append(one._replace(rules=rules))
        self._new.clear()
        over = [one for one in self._open if one.looked]
        self._open = [one for one in self._open if not one.looked]
        return sorted(
            (one for one in over if one.corrected is not None and one.corrected != one.found),
            key=lambda one: (one.check, one.found.id),
        )

    def row(self) -> list[object]:
        """What a checkpoint keeps."""
        return [[p.found.model_dump(mode="json"), p.active, p.rules, p.check] for p in self._open]

    def restore(self, row: list[Any]) -> set[int]:
        """Take back what a checkpoint kept; the ends that are due."""
        self._open = [
            Pending(DETECTION.validate_python(found), active, tuple(rules), check)
            for found, active, rules, check in row
        ]
        return {one.check for one in self._open}

    def _again(self, found: Detection, cfg: Product, limits: dict[str, Threshold]) -> tuple[Detection | None, bool]:
        """The finding with the figures as they are known now, and whether it would still be found."""
        if not isinstance(found, (StageEntered, ThresholdCrossed)):
            return None, True
        totals = self._gauges.usage.windows[found.window].newest([found.window_end])[found.window_end]
        if isinstance(found, StageEntered):
            return self._stage(found, cfg, totals)
        name = ALL if found.subject == subject("product", self._product) else found.subject.partition(":")[2]
        value = self._gauges.of_use(found.metric, totals, name, cfg)
        threshold = limits.get(found.threshold)
        return found.model_copy(update={"value": value}), threshold is None or bool(is_past(value, threshold))

    def _stage(self, found: StageEntered, cfg: Product, totals: Int64s) -> tuple[Detection, bool]:
        cell = self._gauges.usage.cell.get(found.feature)
        users = int(totals[cell, USERS]) if cell is not None else 0
        target = cfg.target_users or int(totals[0, USERS])
        rate = users / target if target > 0 and target >= cfg.min_target_users else None
        corrected = found.model_copy(update={"users": users, "target_users": target, "rate": rate})
        return corrected, _stage_of(rate, cfg) == found.stage


def _stage_of(rate: float | None, cfg: Product) -> Stage:
    low, high = cfg.stage_borders
    if rate is None:
        return "no_data"
    return "low" if rate < low else "growth" if rate <= high else "market"
