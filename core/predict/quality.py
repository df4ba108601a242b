"""How good probabilities turned out to be: Brier score, expected calibration error, area under the ROC curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
DIGITS = 6
"""A probability is told, and measured, to this many, so that rounding errors decide nothing."""
_BINS = 10


class Quality(NamedTuple):
    """Of probabilities whose outcomes are known."""

    auc: float
    """Chance that one for which it came true had the higher probability; 0.5 where all came out the same."""
    brier: float
    """Mean squared distance; less is better."""
    base_brier: float
    """That of always saying the share for which it came true."""
    ece: float
    """Mean distance between said and true shares, over ten bins of equally many."""
    rows: int


def quality(said: Floats, true: Bools) -> Quality:
    """Of at least one probability; of equal ones the earlier rows fill the lower bin."""
    said = np.round(said, DIGITS)
    share = float(true.mean())
    return Quality(
        _auc(said, true), float(((said - true) ** 2).mean()), share * (1.0 - share), _ece(said, true), len(said)
    )


def _auc(said: Floats, true: Bools) -> float:
    yes = int(true.sum())
    no = len(true) - yes
    if not yes or not no:
        return 0.5
    _, inverse, counts = np.unique(said, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0  # equal ones share their mean rank
    return float((ranks[inverse][true].sum() - yes * (yes + 1) / 2.0) / (yes * no))


def _ece(said: Floats, true: Bools) -> float:
    order = np.argsort(said, kind="stable")
    gaps = [abs(float(said[b].sum()) - float(true[b].sum())) for b in np.array_split(order, _BINS)]
    return sum(gaps) / len(said)
