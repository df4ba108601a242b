"""The load curve: how busy each hour is, from a real series.

The series is the hourly water flow that comes inside the `river` package: people's days and weeks are in it, and so are
two months of real disturbances. Its values hardly differ from each other, so each hour gets the *rank* of its value: the
calmest hour has a quarter of the mean load, the busiest seven quarters.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
import polars as pl

LOW, HIGH = 0.25, 1.75


@cache
def hourly_load() -> npt.NDArray[np.float64]:
    """Relative load (mean about 1) of each hour of the series, in time order."""
    text = resources.files("river").joinpath("datasets/water-flow.csv").read_bytes()
    flow = pl.read_csv(text).to_series(1)
    rank = (flow.rank("average") - 0.5) / len(flow)
    load: npt.NDArray[np.float64] = (LOW + (HIGH - LOW) * rank).to_numpy()
    return load


def load_at(ms: int) -> float:
    """Relative load at a time of day and date, the series repeating itself; between hours it is interpolated."""
    load = hourly_load()
    hours = ms / 3_600_000
    first = int(hours)
    share = hours - first
    return float(load[first % len(load)] * (1 - share) + load[(first + 1) % len(load)] * share)
