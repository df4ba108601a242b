"""A cause for every state of the catalogue's A and B, in raw events, and beside each the same world without the cause.

Every case is two products with the same users at the same moments. In one of them the cause is there: few adopt, many
adopt, adopters come without campaigns, requests fail or are slow. In its twin it is not. Nothing in a row says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.simulate.columns import ACTIVITY, CAMPAIGN, ORGANIC, REQUEST, USE, Columns, chance, joined
from app.simulate.order import Order
from app.simulate.plan import DAY_MS, Dirt, Feature, Plan, Product, Service

USERS = 200
SLOTS = 8
"""Visits of each user a day; any 24 hours hold some of everyone."""
FAST_MS, FAIR_MS, SLOW_MS = 40.0, 600.0, 2_500.0


@dataclass(frozen=True, slots=True)
class Case:
    """A state of the catalogue, the product in which its cause is planted, and the twin without."""

    state: str
    """`A1` … `B4`."""
    tenant: str
    product: str

    @property
    def twin(self) -> str:
        """The product without the cause."""
        return f"{self.product}-twin"


@dataclass(frozen=True, slots=True)
class _World:
    adoption: tuple[float, ...] = (0.45,)
    """Share of adopters of each feature."""
    campaigns: tuple[float, ...] = (0.5,)
    """Share of them whom a campaign brought."""
    latency_ms: float | None = None
    """None: no requests, so no health."""
    failing: float = 0.0


CASES = (
    Case("A1", "acme", "wiki"),
    Case("A2", "acme", "forms"),
    Case("A3", "globex", "board"),
    Case("A4", "globex", "share"),
    Case("B1", "acme", "shop"),
    Case("B2", "acme", "mail"),
    Case("B3", "globex", "drive"),
    Case("B4", "globex", "pay"),
)

_CAUSES: dict[str, tuple[_World, _World]] = {
    "A1": (_World((0.45, 0.10), (0.5, 0.5)), _World((0.45, 0.45), (0.5, 0.5))),
    "A2": (_World((0.40, 0.85), (0.5, 0.5)), _World((0.10, 0.85), (0.5, 0.5))),
    "A3": (_World((0.80, 0.10), (0.5, 0.5)), _World((0.40, 0.10), (0.5, 0.5))),
    "A4": (_World((0.35, 0.40), (0.05, 0.6)), _World((0.35, 0.40), (0.5, 0.6))),
    "B1": (_World((0.10,), (0.5,), SLOW_MS, 0.05), _World((0.10,), (0.5,), FAST_MS)),
    "B2": (_World((0.10,), (0.5,), FAST_MS, 0.05), _World((0.10,), (0.5,), FAST_MS)),
    "B3": (_World((0.30,), (0.5,), FAIR_MS), _World((0.80,), (0.5,), FAST_MS)),
    "B4": (_World((0.80,), (0.5,), FAST_MS), _World((0.30,), (0.5,), FAIR_MS)),
}


def plan(seed: int = 1, days: float = 2.0) -> Plan:
    """The plan of all cases, twins included."""
    products = []
    for case in CASES:
        for name, world in zip((case.product, case.twin), _CAUSES[case.state], strict=True):
            features = tuple(
                Feature(f"{name.removesuffix('-twin')}-{k}", share, share, campaigns=campaigns)
                for k, (share, campaigns) in enumerate(zip(world.adoption, world.campaigns, strict=True))
            )
            services = (Service("gateway", world.latency_ms or FAST_MS, world.failing),)
            products.append(Product(case.tenant, name, USERS, features, services))
    dirt = Dirt(duplicates=0.05, malformed=0.0, disordered=0.05, huge=0)
    return Plan(f"c{seed}", seed, tuple(products), events=0, days=days, dirt=dirt)


def chunks(of: Plan) -> Iterator[Columns]:
    """The run in the order in which it is written, an hour of event time a piece."""
    rows = _rows(of)
    order = Order(of)
    hour = 3_600_000
    for begin in range(of.start_ms, of.end_ms, hour):
        now = (rows.at >= begin) & (rows.at < begin + hour)
        yield order.arrive(rows.take(now), until=begin + hour)
    yield order.rest()


def _rows(of: Plan) -> Columns:
    """Every visit of every user: a use of each feature adopted, else a look around, and a request."""
    parts = []
    worlds = [w for case in CASES for w in _CAUSES[case.state]]
    visits = int(of.days * SLOTS)
    user = np.tile(np.arange(USERS, dtype=np.int64), visits)
    slot = np.repeat(np.arange(visits, dtype=np.int64), USERS)
    # Twins share their visits: the moments depend on the case, the user and the slot.
    for index, (product, world) in enumerate(zip(of.products, worlds, strict=True)):
        case = index // 2
        jitter = chance(user * 65_536 + slot + case * 2**40, of.seed)
        at = of.start_ms + ((slot + jitter) * (DAY_MS // SLOTS)).astype(np.int64)
        for k, feature in enumerate(product.features):
            # Adopters are exactly the first of a shuffled list, and so are those of them whom a campaign brought.
            place = np.random.default_rng([of.seed, case, k]).permutation(USERS)[user]
            adopters = round(feature.after * USERS)
            brought = place < round(feature.campaigns * adopters)
            said = np.where(brought, CAMPAIGN + k, np.where(slot % 2 == 0, ORGANIC, 0))
            parts.append(_columns(index, user, at + k, np.where(place < adopters, USE, ACTIVITY), k, said))
        if world.latency_ms is not None:
            requests = _columns(index, user, at + 500, np.full(len(user), REQUEST), 0, np.zeros_like(user))
            spread = 0.8 + 0.4 * chance(user * 65_536 + slot, of.seed + 1)
            requests.latency_us[:] = (world.latency_ms * spread * 1000).astype(np.int64)
            failed = chance(user * 65_536 + slot, of.seed + 2) < world.failing
            requests.status[:] = np.where(failed, 500, 200)
            parts.append(requests)
    rows = joined(parts)
    rows = rows.take(np.argsort(rows.at, kind="stable"))
    rows.n = np.arange(len(rows), dtype=np.int64)
    return rows


def _columns(
    product: int,
    user: np.ndarray[tuple[int], np.dtype[np.int64]],
    at: np.ndarray[tuple[int], np.dtype[np.int64]],
    kind: np.ndarray[tuple[int], np.dtype[np.int64]],
    what: int,
    said: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Columns:
    size = len(user)
    return Columns(
        n=np.zeros(size, np.int64),
        product=np.full(size, product, np.int16),
        kind=kind.astype(np.int8),
        user=user.astype(np.int32),
        what=np.full(size, what, np.int32),
        at=at.copy(),
        attribution=np.where(kind == USE, said, 0).astype(np.int16),
        latency_us=np.zeros(size, np.int64),
        status=np.zeros(size, np.int16),
        error=np.zeros(size, np.int8),
        spoilt=np.zeros(size, np.int8),
        arrival=at.copy(),
    )
