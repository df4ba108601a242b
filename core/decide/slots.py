"""Where rows of the public tables stand: the keep grid of each window, and the keys.

A row's slot is its window's end rounded up to the grid, so ends between two grid points overwrite each other and the
one on the grid is what stays. An end where nothing changed publishes no row: readers take the newest row at or before.
"""

from __future__ import annotations

from typing import Final

from schemas.registers import WINDOWS

GRID: Final[dict[str, int]] = {
    "5m": 300_000,
    "1h": 60_000,
    "1d": 3_600_000,
    "7d": 86_400_000,
    "28d": 86_400_000,
}
"""Window → milliseconds between the ends that the tables keep."""


def slot(window: str, end: int) -> int:
    """The grid point at which a row of this window end stands."""
    grid = GRID[window]
    return -(-end // grid) * grid


def next_end(window: str, at: int) -> int:
    """The first end of the window at or after `at`."""
    step = WINDOWS[window][1]
    return -(-at // step) * step


def ending(end: int) -> tuple[str, ...]:
    """The windows that end here, the shortest first.

    >>> ending(70_000), ending(3_600_000), ending(5)
    (('5m',), ('5m', '1h', '1d'), ())
    """
    # Each step divides the next: most ends, ten seconds from one another, are told by one division.
    if end % _MINUTE_MS:
        return _SHORTEST if end % _FINEST_MS == 0 else ()
    return tuple(window for window, (_, step) in WINDOWS.items() if end % step == 0)


_FINEST_MS: Final = WINDOWS["5m"][1]
_MINUTE_MS: Final = WINDOWS["1h"][1]
_SHORTEST: Final = ("5m",)


def adoption_key(tenant: str, product: str, feature: str, window: str, end: int) -> bytes:
    """`tenant|product|feature|window|slot`."""
    return f"{tenant}|{product}|{feature}|{window}|{slot(window, end)}".encode()


def health_key(tenant: str, product: str, window: str, end: int) -> bytes:
    """`tenant|product|health|slot`."""
    return f"{tenant}|{product}|health|{slot(window, end)}".encode()
