"""Public tables: adoption and health, current and closed rows."""

from __future__ import annotations

from typing import Literal

from schemas.envelope import Millis, Word

Stage = Literal["no_data", "low", "growth", "market"]
Band = Literal["no_data", "critical", "declining", "stable", "optimal"]
WindowName = Literal["5m", "1h", "1d", "7d", "28d"]


class AdoptionRow(Word):
    """One feature in one window. Key `tenant|product|feature|window|slot`; a higher version replaces a lower one."""

    tenant: str
    product: str
    feature: str
    window: WindowName
    window_start: Millis
    window_end: Millis
    users: int
    events: int
    target_users: int
    adoption_rate: float | None
    """users / target_users; null below 20 target users ("no data")."""
    organic_share: float | None
    """Adopters whose first use carries no attribution / adopters; null without adopters."""
    stage: Stage
    viral: bool
    version: int


class HealthComponent(Word):
    """One part of the score, with what it was computed from."""

    score: float
    weight: float
    """As applied: the weights of the components present add up to 1."""
    inputs: dict[str, float]


class HealthRow(Word):
    """A product's explained health at one window end. Key `tenant|product|health|slot`."""

    tenant: str
    product: str
    at: Millis
    score: float | None
    band: Band
    components: dict[str, HealthComponent]
    missing: list[str]
    version: int
