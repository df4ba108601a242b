"""The catalogue: a live view of all definitions, by kind and tenant. Filled by whoever reads the topic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

from schemas.definitions import ALL_TENANTS, DEFINITION, Definition, Pause, Product, Workflow, head_key

D = TypeVar("D", bound=Definition)


@lru_cache(maxsize=4_096)
def undefined_product(tenant: str, name: str) -> Product:
    """The settings of a product that nobody defined: all defaults.

    Not validated: an event may name a product as no definition could, and must not stop whoever reads it.
    """
    return Product.model_construct(tenant=tenant, name=name)


class Catalogue:
    """Heads of all definitions. `apply` takes records of `definitions` in any order of keys, newest wins."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Definition] = {}
        self._by_kind: dict[str, dict[tuple[str, str], Definition]] = defaultdict(dict)
        self._retired: dict[bytes, Workflow] = {}
        self.generation = 0
        """Grows with every change: whoever compiles something from definitions compares it."""

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the topic; records of single versions (four-part keys) are history and skipped.

        Raises `pydantic.ValidationError` where the value is no definition.
        """
        parts = key.decode().split("|")
        if len(parts) != 3:
            return
        tenant, kind, name = parts
        definition = None if value is None else DEFINITION.validate_json(value)
        known = self._retired.pop(key, None) is not None or key in self._heads
        if definition is None or (isinstance(definition, Workflow) and definition.retired is not None):
            self._heads.pop(key, None)
            self._by_kind[kind].pop((tenant, name), None)
            if definition is None and not known:
                return
            if isinstance(definition, Workflow):
                self._retired[key] = definition
        else:
            self._heads[key] = definition
            self._by_kind[kind][tenant, name] = definition
        self.generation += 1

    def put(self, definition: Definition) -> None:
        """Apply a definition directly (tests, first start)."""
        self.apply(head_key(definition), definition.model_dump_json().encode())

    def of(self, kind: type[D], tenant: str | None = None) -> list[D]:
        """Definitions of one kind that apply to `tenant` (its own and everybody's); None: all there are."""
        name = kind.model_fields["kind"].default
        return [
            d  # type: ignore[misc]
            for (owner, _), d in self._by_kind[name].items()
            if tenant is None or owner in (tenant, ALL_TENANTS)
        ]

    def product(self, tenant: str, name: str) -> Product:
        """The product's settings; defaults where nobody defined it."""
        for owner in (tenant, ALL_TENANTS):
            found = self._by_kind["product"].get((owner, name))
            if isinstance(found, Product):
                return found
        return undefined_product(tenant, name)

    def paused(self, tenant: str, *, rule: str | None = None, connection: str | None = None) -> bool:
        """Whether the tenant, the rule or the connection is paused."""
        return any(
            (p.scope == "tenant" and p.of in (tenant, ALL_TENANTS))
            or (p.scope == "rule" and rule is not None and p.of == rule)
            or (p.scope == "connection" and connection is not None and p.of == connection)
            for p in self.of(Pause, tenant)
        )

    def heads(self) -> Iterable[Definition]:
        """Every definition in force."""
        return self._heads.values()

    def written(self) -> Iterable[Definition]:
        """The newest version of everything that was not deleted: what is in force, and retired workflows."""
        yield from self._heads.values()
        yield from self._retired.values()

    def retired(self) -> Iterable[Workflow]:
        """Workflows that are out of force while runs of theirs may go on."""
        return self._retired.values()
