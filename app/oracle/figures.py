"""Figures of window ends, gathered anew from the rows for each end (`docs/semantics.md` §3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from app.oracle.partition import Folded

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
WINDOWS = {
    "5m": (5 * MINUTE, 10 * SECOND),
    "1h": (HOUR, MINUTE),
    "1d": (DAY, HOUR),
    "7d": (7 * DAY, DAY),
    "28d": (28 * DAY, DAY),
}
"""Name → (length, step)."""

Product = tuple[str, str]


class Use(NamedTuple):
    """Users, events and organic users of a feature, or of `*`."""

    users: int
    events: int
    organic: int


class Requests(NamedTuple):
    """Requests of a name, or of `*`."""

    requests: int
    errors: int
    satisfied: int
    tolerating: int
    latency_sum_us: int


NO_USE = Use(0, 0, 0)
NO_REQUESTS = Requests(0, 0, 0, 0, 0)


class Figures:
    """All rows of a log, ready to be asked for any window end."""

    def __init__(self, folded: Sequence[Folded], *, grace_ms: int = 600_000, apdex_t_ms: float = 300.0) -> None:
        self.grace_ms = grace_ms
        self._t_us = apdex_t_ms * 1000
        self.clock = min((f.clock for f in folded), default=0)
        """The time up to which every partition is complete."""
        self._folded_clocks = [(f.clock, f.held) for f in folded]
        self.products: list[Product] = sorted({p for f in folded for p in f.products})
        self._ids = {p: i for i, p in enumerate(self.products)}
        self.names: list[str] = sorted({n for f in folded for n in f.names})
        number = {n: i for i, n in enumerate(self.names)}
        usage = self._frame([f for f in folded if not f.performance], number)
        self._requests = self._frame([f for f in folded if f.performance], number).sort("at", maintain_order=True)
        self._usage = usage.sort("at", maintain_order=True)
        everyone = usage.with_columns(pl.lit(-1, pl.Int64).alias("name"))
        self._firsts = _firsts(pl.concat([usage.filter(pl.col("name") >= 0), everyone]))
        self.appeared = self._appearances(usage.filter(pl.col("name") >= 0))
        """(product, feature) → the first end, of any window, that has a use of it on time."""
        self.began = self._began()
        """product → the first end, of any window, that has anything of it on time."""

    def _frame(self, folded: Sequence[Folded], number: dict[str, int]) -> pl.DataFrame:
        parts = []
        for f in folded:
            product = np.array([self._ids[p] for p in f.products] or [0], np.int64)
            name = np.array([number[n] for n in f.names] + [-1], np.int64)
            parts.append(
                pl.DataFrame(
                    {
                        "part": np.full(len(f.at), f.partition, np.int64),
                        "product": product[f.product],
                        "name": name[f.name],
                        "user": f.user,
                        "at": f.at,
                        "watermark": f.watermark,
                        "organic": f.organic,
                        "latency_us": f.latency_us,
                        "error": f.error,
                    }
                )
            )
        empty = {
            n: pl.Int64
            for n in ("part", "product", "name", "user", "at", "watermark", "organic", "latency_us", "error")
        }
        return pl.concat([pl.DataFrame(schema=empty), *parts])

    def clock_of(self, product: Product) -> int:
        """The time up to which every partition is complete for this product."""
        return min((held.get(product, clock) for clock, held in self._folded_clocks), default=0)

    # --- one window end -------------------------------------------------------------------------------------------

    def usage(self, window: str, end: int, *, newest: bool) -> dict[Product, dict[str, Use]]:
        """Figures of all features (and `*`) of all products at an end: version 0, or the newest."""
        until = end + (self.grace_ms if newest else 0)
        rows = _between(self._usage, end - WINDOWS[window][0], end).filter(pl.col("watermark") < until)
        firsts = _before(self._firsts, until).group_by("part", "product", "name", "user").agg(pl.col("first").min())
        pairs = pl.concat([rows.filter(pl.col("name") >= 0), rows.with_columns(pl.lit(-1, pl.Int64).alias("name"))])
        sums = (
            pairs.group_by("part", "product", "name", "user")
            .agg(events=pl.len())
            .join(firsts, on=["part", "product", "name", "user"], how="left")
            .group_by("product", "name")
            .agg(users=pl.len(), events=pl.col("events").sum(), organic=(pl.col("first") % 2).sum())
        )
        out: dict[Product, dict[str, Use]] = {p: {} for p in self.products}
        for product, name, users, events, organic in sums.iter_rows():
            out[self.products[product]]["*" if name < 0 else self.names[name]] = Use(users, events, organic)
        return out

    def requests(self, window: str, end: int, *, newest: bool = False) -> dict[Product, dict[str, Requests]]:
        """Figures of all services and features (and `*`) of all products at an end."""
        until = end + (self.grace_ms if newest else 0)
        rows = _between(self._requests, end - WINDOWS[window][0], end).filter(pl.col("watermark") < until)
        latency = pl.col("latency_us")
        sums = (
            pl.concat([rows, rows.with_columns(pl.lit(-1, pl.Int64).alias("name"))])
            .group_by("product", "name")
            .agg(
                pl.len(),
                pl.col("error").sum(),
                (latency <= self._t_us).sum().alias("satisfied"),
                ((latency > self._t_us) & (latency <= 4 * self._t_us)).sum().alias("tolerating"),
                latency.sum(),
            )
        )
        out: dict[Product, dict[str, Requests]] = {p: {} for p in self.products}
        for product, name, *figures in sums.iter_rows():
            out[self.products[product]]["*" if name < 0 else self.names[name]] = Requests(*figures)
        return out

    # --- what is there at all -------------------------------------------------------------------------------------

    def _appearances(self, uses: pl.DataFrame) -> dict[tuple[Product, str], int]:
        found = uses.with_columns(_first_end().alias("end")).group_by("product", "name").agg(pl.col("end").min())
        return {(self.products[p], self.names[n]): end for p, n, end in found.iter_rows() if end is not None}

    def _began(self) -> dict[Product, int]:
        rows = pl.concat([self._usage, self._requests]).with_columns(_first_end().alias("end"))
        found = rows.group_by("product").agg(pl.col("end").min())
        return {self.products[p]: end for p, end in found.iter_rows() if end is not None}


def _first_end() -> pl.Expr:
    """The first end at which a row is on time, in any window; null where there is none."""
    after = pl.max_horizontal("at", "watermark")
    ends = []
    for length, step in WINDOWS.values():
        end = (after // step + 1) * step
        ends.append(pl.when(end - length <= pl.col("at")).then(end))
    return pl.min_horizontal(ends)


def _firsts(uses: pl.DataFrame) -> pl.DataFrame:
    """Rows that made a user's first use of a name earlier, or less organic, by watermark at arrival.

    `first` is the time doubled, and one more where it is organic: the least of them is the earliest, and of several at
    that moment one that is not organic.
    """
    key = ["part", "product", "name", "user"]
    first = pl.col("at") * 2 + pl.col("organic")
    moved = uses.with_columns(first=first).with_columns(least=pl.col("first").cum_min().over(key))
    before = pl.col("least").shift(1).over(key)
    moved = moved.filter(before.is_null() | (pl.col("least") < before))
    return moved.select(*key, "watermark", "first").sort("watermark")


def _between(frame: pl.DataFrame, begin: int, end: int) -> pl.DataFrame:
    at = frame["at"].to_numpy()
    low, high = np.searchsorted(at, [begin, end])
    return frame[int(low) : int(high)]


def _before(frame: pl.DataFrame, until: int) -> pl.DataFrame:
    return frame[: int(np.searchsorted(frame["watermark"].to_numpy(), until))]
