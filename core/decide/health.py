"""The explained health score of a product: components with their inputs, the weighted mean, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.definitions import Product
from schemas.tables import HealthComponent

COMPONENTS = ("reliability", "responsiveness", "adoption", "engagement", "satisfaction", "trend")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Version-0 figures of one end. None: there is nothing to compute the component from."""

    requests: int = 0
    errors: int = 0
    satisfied: int = 0
    tolerating: int = 0
    features: int = 0
    """With a rate, at the stage window's newest judged end."""
    mean_rate: float = 0.0
    mean_fulfilment: float = 0.0
    """Mean of min(1, rate / adoption_full)."""
    dau: int = 0
    mau: int = 0
    ratings: int = 0
    mean_rating: float = 0.0
    """1 to 5 stars."""
    now: int = 0
    before: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """The score (None: less than half of the weight is present), its components, and the missing ones in order."""

    score: float | None
    components: dict[str, HealthComponent]
    missing: list[str]

    @property
    def weakest(self) -> str | None:
        """The component with the lowest score; the first of equals in the order of `COMPONENTS`."""
        return min(self.components, key=lambda c: self.components[c].score, default=None)


def assess(inputs: Inputs, product: Product) -> Health:
    """The health of a product from one end's figures (`docs/semantics.md` §4)."""
    found = _scores(inputs, product)
    weights = product.weights.model_dump()
    present = sum(weights[name] for name in found)
    components = {
        name: HealthComponent(score=score, weight=weights[name] / present, inputs=used)
        for name, (score, used) in found.items()
        if present > 0
    }
    enough = present > 0 and present >= sum(weights.values()) / 2
    score = sum(weights[name] * score for name, (score, _) in found.items()) / present if enough else None
    return Health(score, components, [name for name in COMPONENTS if name not in found])


def _scores(i: Inputs, product: Product) -> dict[str, tuple[float, dict[str, float]]]:
    found: dict[str, tuple[float, dict[str, float]]] = {}
    if i.requests > 0:
        error_rate = i.errors / i.requests
        allowed = 1 - product.slo
        spent = error_rate / allowed if allowed > 0 else float(error_rate > 0)
        found["reliability"] = (
            100 * (1 - min(1.0, spent)),
            {"requests": i.requests, "errors": i.errors, "error_rate": error_rate},
        )
        found["responsiveness"] = (
            100 * (i.satisfied + i.tolerating / 2) / i.requests,
            {
                "requests": i.requests,
                "satisfied": i.satisfied,
                "tolerating": i.tolerating,
                "t_ms": product.apdex_t_ms,
            },
        )
    if i.features > 0:
        found["adoption"] = (100 * i.mean_fulfilment, {"features": i.features, "mean_rate": i.mean_rate})
    if i.mau > 0:
        found["engagement"] = (
            100 * min(1.0, (i.dau / i.mau) / product.engagement_full),
            {"dau": i.dau, "mau": i.mau},
        )
    if i.ratings > 0:
        found["satisfaction"] = (
            100 * (i.mean_rating - 1) / 4,
            {"ratings": i.ratings, "mean_rating": i.mean_rating},
        )
    if i.before > 0:
        change = max(-1.0, min(1.0, (i.now - i.before) / i.before))
        found["trend"] = (50 + 50 * change, {"now": i.now, "before": i.before})
    return found
