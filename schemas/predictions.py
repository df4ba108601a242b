"""Predictions: how likely each user of a product does something, or nothing, within some days, against a limit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.described import Described, Name, Seconds

PredictionModel = Literal["inactivity", "conversion"]
MAX_HORIZON_DAYS = 14
"""Half of the days that are kept of a user: what is predicted must have happened to somebody, and days must be left to stand on."""


class Prediction(Described):
    """A probability of every user of a product, judged when a day (UTC) of event time has ended."""

    kind: Literal["prediction"] = "prediction"
    product: str | None = None
    """Absent: every product of the tenant."""
    model: PredictionModel = "inactivity"
    """`inactivity`: does nothing for `horizon_days`. `conversion`: uses `feature` for the first time within them."""
    feature: Name | None = None
    """Of a conversion."""
    horizon_days: Annotated[int, Field(ge=1, le=MAX_HORIZON_DAYS)] = 7
    limit: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Crossed above this probability."""
    clear_limit: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Hysteresis: cleared only at or below this; absent: the limit."""
    for_s: Seconds = 0
    """How long it must be above the limit; whole days, since it is judged once a day."""
    keep_firing_for_s: Seconds = 0
    max_error: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """The quality gate: nothing crosses or clears while the calibration error measured last is above this, or the model no better
    than the common share."""

    @model_validator(mode="after")
    def _whole(self) -> Prediction:
        if (self.model == "conversion") != (self.feature is not None):
            raise ValueError("a conversion names its feature, an inactivity has none")
        if self.clear_limit is not None and self.clear_limit > self.limit:
            raise ValueError("clear_limit lies at or below limit")
        return self
