"""Products of one source: the first row of one registers it, unless the deployment is strict and nobody defined it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from core.batch import Int64s
from core.meter.index import Bools
from core.meter.source import Source
from core.meter.wire import Bad


class Settings(NamedTuple):
    """What reading needs to know of a product."""

    refused: Bad | None
    """Why its rows are dead letters; None: they are not."""
    disorder_ms: int
    grace_ms: int
    t_ms: float


SettingsOf = Callable[[str, str], Settings]


class Products:
    """Numbers products and keeps their settings by number."""

    def __init__(self, source: Source, settings: SettingsOf) -> None:
        self._source, self._settings = source, settings
        self.disorder: Int64s = np.zeros(1, np.int64)
        """By product, milliseconds that its rows come out of order by."""
        self.t_ms = np.zeros(1)
        """By product, Apdex's T."""
        self._generation = -1
        self._refused: dict[tuple[int, int], Bad] = {}

    def renew(self, generation: int) -> None:
        """Look settings up again, and refusals, if the catalogue has grown to another generation."""
        if generation != self._generation:
            self._generation = generation
            self._refused.clear()
            self._refresh(range(1, len(self._source.groups)))

    def numbers(self, tenants: Int64s, products: Int64s, good: Bools) -> Int64s:
        """The numbers of the rows' products; those of `good` rows register themselves. 0: refused, or never seen."""
        source = self._source
        groups = source.group_numbers(tenants, products)
        new = np.flatnonzero(good & (groups == 0))
        if not len(new):
            return groups
        for code in np.unique((tenants[new] << 32) | products[new]).tolist():
            pair = code >> 32, code & 0xFFFFFFFF
            tenant, product = source.tenants.names[pair[0]], source.products.names[pair[1]]
            settings = self._settings(tenant, product)
            if settings.refused is None:
                self._refresh([source.add_group(tenant, product, settings.grace_ms)])
            else:
                self._refused[pair] = settings.refused
        return source.group_numbers(tenants, products)

    def refused(self, tenant: int, product: int) -> Bad:
        """Why the rows of these codes, which have no number, are dead letters."""
        return self._refused.get((tenant, product), Bad("unknown_product", "the product is not defined"))

    def coming(self, named: Iterable[tuple[str, str]]) -> list[int]:
        """Numbers of the products that a replay names as it begins, as far as their rows would be accepted."""
        source, found = self._source, []
        for tenant, product in named:
            pair = source.tenants[tenant], source.products[product]
            if pair[0]:
                number = int(source.group_numbers(np.array(pair[:1]), np.array(pair[1:]))[0])
                settings = self._settings(tenant, product)
                if not number and settings.refused is None:
                    number = source.add_group(tenant, product, settings.grace_ms)
                    self._refresh([number])
                if number:
                    found.append(number)
        return found

    def _refresh(self, groups: Iterable[int]) -> None:
        for number in groups:
            group = self._source.groups[number]
            settings = self._settings(group.tenant, group.product)
            if number >= len(self.disorder):
                more = number + 1 - len(self.disorder)
                self.disorder = np.append(self.disorder, np.zeros(more, np.int64))
                self.t_ms = np.append(self.t_ms, np.zeros(more))
            self.disorder[number], self.t_ms[number] = settings.disorder_ms, settings.t_ms
