"""What happens: given times, who did what then."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.simulate.columns import ACTIVITY, CAMPAIGN, REQUEST, USE, Columns, chance
from app.simulate.plan import Plan, Product

CAMPAIGNS = 7
"""Campaigns a product runs side by side."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _cumulative(weights: npt.NDArray[np.floating]) -> Floats:
    return np.cumsum(weights / weights.sum(), dtype=np.float64)


class World:
    """A plan made ready to draw from. Draws depend on the seed and on the order in which they are asked for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._rng = np.random.default_rng(plan.seed)
        self._numbers = 0
        self._products = _cumulative(np.array([p.weight for p in plan.products]))
        self._users = [_cumulative(1.0 / np.arange(1, p.users + 1) ** p.zipf) for p in plan.products]
        self._features = [_cumulative(np.array([f.weight for f in p.features])) for p in plan.products]
        self._services = [_cumulative(np.array([s.weight for s in p.services])) for p in plan.products]
        self._ranks = [np.random.default_rng([plan.seed, i]).permutation(p.users) for i, p in enumerate(plan.products)]

    def draw(self, at: Ints) -> Columns:
        """One row for each time of `at`. Nothing is spoilt and everything arrives when it occurs."""
        n, rng = len(at), self._rng
        product = np.searchsorted(self._products, rng.random(n)).astype(np.int16)
        kind = np.where(rng.random(n) < self.plan.requests, REQUEST, USE).astype(np.int8)
        out = Columns(
            n=np.arange(self._numbers, self._numbers + n, dtype=np.int64),
            product=product,
            kind=kind,
            user=np.zeros(n, np.int32),
            what=np.zeros(n, np.int32),
            at=at.astype(np.int64),
            attribution=np.zeros(n, np.int16),
            latency_us=np.zeros(n, np.int64),
            status=np.zeros(n, np.int16),
            error=np.zeros(n, np.int8),
            spoilt=np.zeros(n, np.int8),
            arrival=at.astype(np.int64),
        )
        self._numbers += n
        for i, p in enumerate(self.plan.products):
            of = product == i
            picked = np.searchsorted(self._users[i], rng.random(int(of.sum()))).clip(max=p.users - 1)
            out.user[of] = self._ranks[i][picked]
            self._use(out, np.flatnonzero(of & (kind == USE)), i, p)
            self._request(out, np.flatnonzero(of & (kind == REQUEST)), i, p)
        return out

    def _use(self, out: Columns, rows: npt.NDArray[np.int64], i: int, p: Product) -> None:
        """A user tries a feature; who is not among its adopters by then just looked around."""
        what = np.searchsorted(self._features[i], self._rng.random(len(rows))).clip(max=len(p.features) - 1)
        out.what[rows] = what
        pair = out.user[rows].astype(np.int64) * 4096 + what + i * 2**44
        before, after, middle, ramp, campaigns, wave = (
            np.array([getattr(f, a) for f in p.features], dtype=np.float64)[what]
            for a in ("before", "after", "release_ms", "ramp_ms", "campaigns", "wave_ms")
        )
        since = out.at[rows] - self.plan.start_ms
        curve = 1.0 / (1.0 + np.exp(-np.clip((since - middle) / ramp, -40, 40)))
        swing = 0.5 - 0.5 * np.cos(2 * np.pi * (since - middle) / np.maximum(wave, 1.0))
        grown = np.where(wave > 0, swing, curve)
        adopts = chance(pair, self.plan.seed) < before + (after - before) * grown
        out.kind[rows[~adopts]] = ACTIVITY
        brought = chance(pair, self.plan.seed + 1)
        campaign = CAMPAIGN + (brought * 1e6).astype(np.int64) % CAMPAIGNS
        # One use in eight says nothing of what led to it, so that a late row can change whose first use was organic.
        told = self._rng.random(len(rows))
        said = np.where(brought < campaigns, np.where(told < 0.125, 0, campaign), np.where(told < 0.25, 1, 0))
        out.attribution[rows] = np.where(adopts, said, 0)

    def _request(self, out: Columns, rows: npt.NDArray[np.int64], i: int, p: Product) -> None:
        rng, size = self._rng, len(rows)
        service = np.searchsorted(self._services[i], rng.random(size)).clip(max=len(p.services) - 1)
        usual = np.array([s.latency_ms for s in p.services])[service]
        fails = np.array([s.error_rate for s in p.services])[service]
        since = out.at[rows] - self.plan.start_ms
        for incident in p.incidents:
            into = since - incident.begin_ms
            if incident.every_ms:
                into %= incident.every_ms
            hit = (into >= 0) & (into < incident.end_ms - incident.begin_ms)
            if incident.service is not None:
                hit &= service == incident.service
            usual = np.where(hit, usual * incident.latency_factor, usual)
            fails = np.where(hit, incident.error_rate, fails)
        feature = rng.random(size) < 0.05
        out.what[rows] = np.where(feature, -1 - (rng.random(size) * len(p.features)).astype(np.int64), service)
        out.latency_us[rows] = (usual * np.exp(rng.normal(0.0, 0.5, size)) * 1000).astype(np.int64)
        failed = rng.random(size) < fails
        how = (rng.random(size) * 3).astype(np.int64)
        out.status[rows] = np.where(failed & (how > 0), 503, np.where(rng.random(size) < 0.02, 404, 200))
        out.error[rows] = np.where(failed & (how < 2), how + 1, np.where(rng.random(size) < 0.05, 3, 0))
