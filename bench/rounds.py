"""Rounds: as many as wanted, as far as the time is enough for them."""

from __future__ import annotations

import time
from collections.abc import Iterator


def rounds(most: int, until: float) -> Iterator[int]:
    """Numbers of rounds, at least one; another only where it is over by `until` (`time.monotonic`), taking as long as those before."""
    began = time.monotonic()
    for turn in range(most):
        yield turn
        now = time.monotonic()
        if now + (now - began) / (turn + 1) > until:
            return
