"""The simulation in step with the clock, for the quick start: stages, virality and bands move every few minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from app.simulate.curve import load_at
from app.simulate.draw import World
from app.simulate.encode import Encoded, Encoder
from app.simulate.kafka import Log
from app.simulate.order import Order
from app.simulate.plan import Dirt, Feature, Incident, Plan, Product, Service
from schemas.definitions import Product as ProductDefinition

TICK_S = 0.1
MINUTE_MS = 60_000
HOUR_TAKES_MS = 20_000
"""An hour of the load curve passes in so much time, so that a demo sees its days."""


def demo(start_ms: int, seed: int = 1) -> Plan:
    """Two tenants whose products live fast: features come and go, and one product has an incident every few minutes."""

    def feature(name: str, low: float, high: float, minutes: float, late: float, campaigns: float) -> Feature:
        return Feature(
            name,
            low,
            high,
            release_ms=int(late * MINUTE_MS),
            wave_ms=int(minutes * MINUTE_MS),
            campaigns=campaigns,
        )

    features = (
        feature("search", 0.70, 0.95, 40, 0, 0.3),
        feature("board", 0.05, 0.80, 24, 0, 0.4),
        feature("export", 0.08, 0.50, 16, 3, 0.3),
        feature("share", 0.10, 0.75, 20, 6, 0.05),
        feature("insight", 0.02, 0.35, 18, 9, 0.5),
        feature("billing", 0.10, 0.14, 30, 0, 0.3),
    )
    services = (Service("checkout", 110.0), Service("search", 70.0, weight=2.0), Service("login", 90.0))
    return Plan(
        name=f"live-{start_ms:x}",
        seed=seed,
        products=(
            Product(
                "acme",
                "studio",
                users=400,
                features=features,
                services=services,
                incidents=(Incident(3 * MINUTE_MS, 6 * MINUTE_MS, 0.06, 8.0, every_ms=12 * MINUTE_MS),),
                zipf=0.3,
            ),
            Product("globex", "portal", users=300, features=features[::-1], services=services, weight=0.6, zipf=0.3),
        ),
        events=0,
        start_ms=start_ms,
        dirt=Dirt(duplicates=0.01, malformed=0.002, disordered=0.0, huge=0),
    )


def definitions(plan: Plan) -> list[ProductDefinition]:
    """The demo's products with short windows: what they do shows within a minute."""
    return [
        ProductDefinition(
            tenant=p.tenant,
            name=p.name,
            features=[f.name for f in p.features],
            stage_window="5m",
            health_window="5m",
            description="Simulated: features come and go within minutes.",
        )
        for p in plan.products
    ]


class Pacer:
    """Rows due between one moment and the next. Pure: it is told the time."""

    def __init__(self, plan: Plan, rate: float) -> None:
        self._plan = plan
        self._rate = rate
        self._world = World(plan)
        self._order = Order(plan)
        self._encoder = Encoder(plan)
        self._until = plan.start_ms

    def due(self, now: int) -> Encoded:
        """What arrives from the last call to `now` (milliseconds); the mean rate follows the load curve."""
        begin, self._until = self._until, max(self._until, now)
        if now <= begin:
            return Encoded()
        load = load_at((begin - self._plan.start_ms) * 3_600_000 // HOUR_TAKES_MS)
        count = int(self._order.rng.poisson(self._rate * load * (now - begin) / 1000))
        at = np.sort(self._order.rng.integers(begin, now, count))
        return self._encoder.encode(self._order.arrive(self._world.draw(at), until=now))


async def run(
    log: Log,
    plan: Plan,
    rate: float,
    clock: Callable[[], int],
    progress: Callable[[int], None] = lambda rows: None,
) -> None:
    """Write rows as they fall due, about `rate` a second, until cancelled. `clock` gives milliseconds since the epoch."""
    pacer = Pacer(plan, rate)
    try:
        while True:
            await log.append(pacer.due(clock()))
            await log.flush()
            progress(log.written.rows)
            await asyncio.sleep(TICK_S)
    finally:
        await asyncio.shield(log.flush())
