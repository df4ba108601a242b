"""Idle clocks: a partition that was read to its end says how far it is by the wall clock, held back by what may still come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from core.definitions import Catalogue
from core.meter.clocks import DISORDER_MS
from schemas.definitions import Product

CLOCK_MS: Final = 400
"""Between two words of an idle partition's clock: timers are late by up to so much."""
EARLY_MS: Final = 50
"""A tick that comes so much too early is the one that was asked for."""


class HeldBack:
    """What idle clocks are held back by: the largest disorder that a product of anybody declares, and no more than the default."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._ms, self._known = DISORDER_MS, (-1, -1)

    def ms(self, count: int, seen: Iterable[tuple[str, str]]) -> int:
        """`seen`: (tenant, product) of those that rows came of, `count` in all; it is gone through only where something is new."""
        known = (self._catalogue.generation, count)
        if known != self._known:
            self._known = known
            declared = [p.disorder_ms for p in self._catalogue.of(Product)]
            declared += [self._catalogue.product(*name).disorder_ms for name in seen]
            self._ms = min(DISORDER_MS, max(declared, default=DISORDER_MS))
        return self._ms
