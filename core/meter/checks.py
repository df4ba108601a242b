"""Checks: why a decoded row is a dead letter, in the order of docs/semantics.md §1 and in the same words for every events topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from core.batch import Batch, Int64s
from core.definitions import Catalogue
from core.effects import DeadLetter
from core.meter.intern import Tenants
from core.meter.wire import Bad, Wire, missing
from schemas.definitions import Product

HOUR_MS: Final = 3_600_000
LAST_MS: Final = (1 << 42) - 2
"""The last time that a row may have: times are packed into 42 bits."""


def latest(broker: Int64s) -> Int64s:
    """By the broker's times, the last that the rows themselves may have."""
    return np.minimum(broker + HOUR_MS, LAST_MS)


def refusal(
    row: Any,
    value: bytes | None,
    at: int,
    broker: int,
    *,
    wire: Wire,
    tenants: Tenants,
    lacks: Callable[[Any], str | None],
) -> Bad | None:
    """What is wrong with a row of `value` that occurred `at`; None where nothing is. `lacks`: what its topic asks for besides."""
    if (found := missing(row, wire)) is not None:
        return found
    if at < 0:
        return Bad("invalid", "`occurred_at` is before 1970")
    if not row.tenant and not _names_tenant(value):
        return Bad("invalid", "`tenant` is missing")
    if (lacking := lacks(row)) is not None:
        return Bad("invalid", lacking)
    if tenants[row.tenant] == 0:
        return Bad("bad_tenant", f"{row.tenant[:80]!r} does not match [a-z0-9-]{{1,64}}")
    if at > min(broker + HOUR_MS, LAST_MS):
        return Bad("too_far_ahead", f"{(at - broker) / 1000:.0f} s ahead of the broker")
    return None


def undefined(catalogue: Catalogue, tenant: str, product: str) -> Bad | None:
    """What a strict deployment says of rows of a product that nobody defined; None where somebody did."""
    defined = catalogue.of(Product, tenant)
    if not defined:
        return Bad("unknown_tenant", f"no product of {tenant!r} is defined")
    if all(p.name != product for p in defined):
        return Bad("unknown_product", f"{tenant} has no product {product!r}")
    return None


def dead_letter(batch: Batch, row: int, bad: Bad) -> DeadLetter:
    """The row of the batch as it goes to the dead letters."""
    return DeadLetter(
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[row]),
        step="meter",
        reason=bad.reason,
        detail=bad.detail,
        key=batch.rows.key(row),
        value=batch.values[row],
        at=int(batch.timestamps[row]),
        headers=batch.headed.get(row, ()),
    )


def _names_tenant(value: bytes | None) -> bool:
    """Whether a `tenant` stands in the value (then it is bad, not missing)."""
    try:
        fields = msgspec.json.decode(value or b"{}", type=dict[str, Any])
    except ValueError:  # fields that nobody declares are checked only here: not UTF-8, for one
        return False
    data = fields.get("data")
    return "tenant" in fields or (isinstance(data, dict) and "tenant" in data)
