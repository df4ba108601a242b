"""What a detector is: a memory that readings move, how unusual the newest reading is, and which values would not have been.

A detector keeps nothing itself. Its memory is a list of numbers, so it can be written down anywhere and taken up again; the same
memory and the same reading always give the same result. Deciding (limits, waiting, clearing) is the affair of
`core.detect.threshold`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

Memory = list[float]
"""Plain numbers; its first is the version of its layout. Never changed in place."""


LARGEST: Final = 1e100
"""A reading beyond it, up or down, counts as it: sums and quotients of such readings stay numbers."""


class Band(NamedTuple):
    """What a reading was expected to be, and the values between which it would have stayed below a limit."""

    expected: float
    low: float
    high: float


class Scored(NamedTuple):
    """What became of a reading."""

    memory: Memory
    score: float
    """Minus the decimal logarithm of the share of readings that are as unusual by the series' own past: 3 is one in a thousand.
    0 where it is not among the most unusual ones at all."""
    up: bool
    """Whether the deviation is upwards."""


class Detector(Protocol):
    """One way of telling unusual readings of one series."""

    @property
    def version(self) -> int:
        """Of the memory's layout: a memory of another version is not taken up, the detector begins to learn anew."""

    def begin(self) -> Memory:
        """Nothing read yet."""

    def step(self, memory: Memory, at: int, value: float) -> Scored:
        """Read a finite value that holds at `at` (event time, milliseconds)."""

    def band(self, memory: Memory, at: int, limit: float) -> Band:
        """Of the next reading, at `at`: a value strictly between low and high scores less than `limit`."""


def bounded(value: float) -> float:
    """The reading as it counts."""
    return max(-LARGEST, min(LARGEST, value))
