"""Products and their settings: windows, borders, targets, weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from schemas.described import Count, Described, Name, Score, Share, Weight
from schemas.envelope import Word
from schemas.limits import MAX_LATENESS_MS, MAX_LISTED
from schemas.tables import WindowName


class HealthWeights(Word):
    """Weights of the health score's components; they need not add up to 1."""

    reliability: Weight = 0.25
    responsiveness: Weight = 0.20
    adoption: Weight = 0.20
    engagement: Weight = 0.15
    satisfaction: Weight = 0.10
    trend: Weight = 0.10


class Product(Described):
    """A product's settings. A product nobody defined has exactly these defaults."""

    kind: Literal["product"] = "product"
    features: Annotated[list[Name], Field(max_length=MAX_LISTED)] = Field(default_factory=list)
    """Features that always have a row, with 0 too."""
    target_users: Count | None = None
    """A fixed target size; absent: the product's active users of the window."""
    stage_window: WindowName = "7d"
    health_window: WindowName = "1d"
    min_target_users: Count = 20
    stage_borders: tuple[Share, Share] = (0.20, 0.60)
    viral_border: Share = 0.80
    viral_min_adopters: Count = 20
    margin: Share = 0.02
    """Distance past a stage border that a change needs (share)."""
    band_borders: tuple[Score, Score, Score] = (40.0, 60.0, 80.0)
    band_margin: Score = 2.0
    slo: Share = 0.999
    apdex_t_ms: Annotated[float, Field(gt=0, le=1e8)] = 300.0
    adoption_full: Annotated[float, Field(gt=0, le=1)] = 0.6
    engagement_full: Annotated[float, Field(gt=0, le=1)] = 0.4
    weights: HealthWeights = HealthWeights()
    disorder_ms: Annotated[int, Field(ge=0, le=MAX_LATENESS_MS)] = 2_000
    grace_ms: Annotated[int, Field(ge=0, le=MAX_LATENESS_MS)] = 600_000

    @field_validator("stage_borders", "band_borders")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(value):
            raise ValueError("borders rise from the lowest level to the highest")
        return value
