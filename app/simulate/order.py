"""In which order rows arrive: a little late, very late, twice, spoilt. Keeps only the rows that are still to come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.simulate.columns import Columns, joined
from app.simulate.curve import hourly_load
from app.simulate.draw import World
from app.simulate.plan import Plan
from app.simulate.spoil import ANCIENT_MS, NUMBER, WAYS

CHUNK_ROWS = 50_000
"""About so many rows are held as columns at a time."""
HOUR_MS = 3_600_000
_RARE = {NUMBER["huge"]}


def chunks(plan: Plan) -> Iterator[Columns]:
    """The whole run in the order in which it is written, in pieces of about `CHUNK_ROWS` rows."""
    world = World(plan)
    order = Order(plan)
    for begin, end, count in _slots(plan):
        at = np.sort(order.rng.integers(begin, end, count))
        yield order.arrive(world.draw(at), until=end)
    yield order.rest()


def _slots(plan: Plan) -> Iterator[tuple[int, int, int]]:
    """(begin, end, rows) of consecutive pieces of the run; the load curve decides how many fall into each hour."""
    load = hourly_load()
    borders = np.append(np.arange(plan.start_ms, plan.end_ms, HOUR_MS), plan.end_ms)
    weights = load[np.arange(len(borders) - 1) % len(load)] * np.diff(borders)
    fresh = round(plan.events * (1 - plan.dirt.duplicates))
    counts = np.random.default_rng([plan.seed, 1]).multinomial(fresh, weights / weights.sum())
    for begin, end, count in zip(borders[:-1].tolist(), borders[1:].tolist(), counts.tolist(), strict=True):
        pieces = max(1, -(-count // CHUNK_ROWS))
        edges = np.linspace(begin, end, pieces + 1).astype(np.int64).tolist()
        for k in range(pieces):
            yield edges[k], edges[k + 1], count // pieces + (k < count % pieces)


class Order:
    """Delays, duplicates and spoils rows, and hands them out by arrival."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.rng = np.random.default_rng([plan.seed, 2])
        self._waiting: list[Columns] = []
        self._huge = plan.dirt.huge

    def arrive(self, rows: Columns, until: int) -> Columns:
        """Take new rows; give those of all taken so far that arrive before `until`."""
        plan, dirt, rng, size = self._plan, self._plan.dirt, self.rng, len(rows)
        self._spoil(rows)
        late = rng.random(size) < dirt.disordered
        # Strays stay a little inside the declared disorder, the disordered ones inside grace.
        stray = (rng.random(size) * (plan.disorder_ms * 0.75)).astype(np.int64)
        far = plan.disorder_ms + (rng.random(size) * (plan.grace_ms * 0.95)).astype(np.int64)
        rows.arrival += np.where(late, far, stray)
        share = dirt.duplicates / (1 - dirt.duplicates)
        copies = rows.take(rng.random(size) < share)
        # Most copies come within the ten minutes in which ids are surely known, one in fifty about when they are forgotten.
        again = rng.random(len(copies))
        copies.arrival += (again * 300_000).astype(np.int64)
        copies.arrival += np.where(rng.random(len(copies)) < 0.02, 480_000 + (again * 900_000).astype(np.int64), 0)
        self._waiting += [rows, copies]
        everything = joined(self._waiting)
        now = everything.arrival < until
        self._waiting = [everything.take(~now)]
        return _sorted(everything.take(now))

    def rest(self) -> Columns:
        """What has not arrived yet, in order."""
        rest = _sorted(joined(self._waiting)) if self._waiting else World(self._plan).draw(np.zeros(0, np.int64))
        self._waiting = []
        return rest

    def _spoil(self, rows: Columns) -> None:
        chosen = np.flatnonzero(self.rng.random(len(rows)) < self._plan.dirt.malformed)
        ways = self.rng.integers(1, len(WAYS) - len(_RARE), len(chosen))
        if self._huge and len(chosen):
            ways[0] = NUMBER["huge"]
            self._huge -= 1
        rows.spoilt[chosen] = ways
        rows.at[rows.spoilt == NUMBER["ancient"]] -= ANCIENT_MS


def _sorted(rows: Columns) -> Columns:
    return rows.take(np.argsort(rows.arrival, kind="stable"))
