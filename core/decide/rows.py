"""Rows of the public tables as they are written: fast twins of `schemas.tables` (a test compares them)."""

from __future__ import annotations

import msgspec

from core.decide.slots import adoption_key, health_key
from core.effects import Emit
from schemas.tables import HealthComponent

_encode = msgspec.json.Encoder().encode


class AdoptionOut(msgspec.Struct, gc=False):
    """`schemas.tables.AdoptionRow`."""

    tenant: str
    product: str
    feature: str
    window: str
    window_start: int
    window_end: int
    users: int
    events: int
    target_users: int
    adoption_rate: float | None
    organic_share: float | None
    stage: str
    viral: bool
    version: int


class HealthOut(msgspec.Struct):
    """`schemas.tables.HealthRow`."""

    tenant: str
    product: str
    at: int
    score: float | None
    band: str
    components: dict[str, dict[str, object]]
    missing: list[str]
    version: int


def emit_adoption(row: AdoptionOut) -> Emit:
    """The record of one adoption row."""
    key = adoption_key(row.tenant, row.product, row.feature, row.window, row.window_end)
    return Emit("tables.adoption", key, _encode(row))


def emit_health(row: HealthOut, window: str) -> Emit:
    """The record of one health row."""
    return Emit("tables.health", health_key(row.tenant, row.product, window, row.at), _encode(row))


def plain(components: dict[str, HealthComponent]) -> dict[str, dict[str, object]]:
    """Components as the row carries them."""
    return {n: {"score": c.score, "weight": c.weight, "inputs": dict(c.inputs)} for n, c in components.items()}
