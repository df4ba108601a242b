"""Whose runs follow an alias: where a tenant has workflows, both names' partitions are told, also if nobody asks for profiles."""

from __future__ import annotations

from typing import Any

from core.definitions import Catalogue
from core.workflows.aliases import KINDS
from schemas.definitions import ALL_TENANTS, Workflow
from schemas.envelope import subject


class Following:
    """Looks through the catalogue once for each of its generations."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._generation = -1
        self._tenants: set[str] = set()

    def any(self) -> bool:
        """Whether anybody has workflows, retired ones included: their runs may go on."""
        if self._generation != self._catalogue.generation:
            self._generation = self._catalogue.generation
            self._tenants = {w.tenant for w in (*self._catalogue.of(Workflow), *self._catalogue.retired())}
        return bool(self._tenants)

    def by(self, tenant: str) -> bool:
        """Whether the tenant has, or everybody."""
        return self.any() and (tenant in self._tenants or ALL_TENANTS in self._tenants)


def both_names(event: Any) -> list[str]:
    """The subjects that an alias makes one."""
    names = [event.former, event.contact]
    return [subject(kind, name) for name in names for kind in KINDS if name] if all(names) else []
