"""Rows of a simulation as columns, before they are bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

USE, ACTIVITY, REQUEST = 0, 1, 2
"""Kinds of row: a use of a feature, another activity of a user, an ended request."""

ABSENT, ORGANIC, CAMPAIGN = 0, 1, 2
"""What is said of a use's attribution; a number k above CAMPAIGN - 1 is campaign k - CAMPAIGN."""


@dataclass(slots=True)
class Columns:
    """Equally long columns, one value a row."""

    n: npt.NDArray[np.int64]
    """Number of the row in the run: its id is made of it, and so is every choice of its form."""
    product: npt.NDArray[np.int16]
    kind: npt.NDArray[np.int8]
    user: npt.NDArray[np.int32]
    what: npt.NDArray[np.int32]
    """Feature of a use, service of a request; a request with a negative one is about feature `-1 - what`."""
    at: npt.NDArray[np.int64]
    attribution: npt.NDArray[np.int16]
    latency_us: npt.NDArray[np.int64]
    status: npt.NDArray[np.int16]
    error: npt.NDArray[np.int8]
    """0 absent, 1 true, 2 a text, 3 false."""
    spoilt: npt.NDArray[np.int8]
    """0: as it should be; else the number of a way to be wrong (`spoil.WAYS`)."""
    arrival: npt.NDArray[np.int64]
    """When it reaches the log, in event time: rows are written in this order."""

    def __len__(self) -> int:
        return len(self.n)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Columns:
        """The rows of a mask or of indices."""
        return Columns(*(getattr(self, f.name)[which] for f in fields(self)))


def joined(parts: list[Columns]) -> Columns:
    """All rows of the parts, in that order."""
    return Columns(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Columns)))


def mixed(values: npt.NDArray[np.int64], salt: int) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each value (splitmix64): choices that stay the same wherever they are made again."""
    with np.errstate(over="ignore"):
        x = values.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def chance(values: npt.NDArray[np.int64], salt: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each value, the same whenever it is asked for."""
    return np.asarray((mixed(values, salt) >> np.uint64(11)).astype(np.float64) / float(2**53), dtype=np.float64)
