"""When a partition's checkpoints begin: soon after an output, seldom where nothing waits, and never one behind the other."""

from __future__ import annotations

from typing import Final

from transport.intake import Held
from transport.options import Options

AIR: Final = 0.3
"""A checkpoint is followed by a gap so many times as long as they usually take, and no shorter than the option's: on a busy machine,
where each takes long, they become fewer and larger instead of taking what is left of it. What a row waits for is mostly the checkpoint
before its own, and this gap: one as long as a checkpoint saved next to no processor time.
"""
AIR_BEHIND: Final = 2.0
"""The same for a partition that works off a backlog: nobody waits for one of its rows in particular."""
LONGEST_GAP_S: Final = 0.1
LONGEST_GAP_BEHIND_S: Final = 0.25
QUIET_S: Final = 1.0
"""Between two checkpoints that say nothing to anybody: a position that has moved, the few rows of a quiet hour."""
FEW_ROWS: Final = 1_000
"""They are worked again in less time than a checkpoint takes."""
SHARE: Final = 0.1
"""What one checkpoint counts for in `usual`."""
NEVER: Final = float("inf")


class Pace:
    """Times of one life of a task, seconds of the event loop's clock."""

    def __init__(self, options: Options, now: float) -> None:
        self._options = options
        self._began = self._ended = now
        self.usual = 0.0
        """How long a checkpoint usually takes. One that is held up (a pause of the broker, a moment's load) counts for little: a gap
        by the last one alone would make every delay three times as long.
        """

    def begun(self, now: float) -> None:
        """A checkpoint begins."""
        self._began = now

    def done(self, now: float) -> None:
        """It has ended well."""
        self._ended = now
        took = now - self._began
        self.usual += (min(took, 2 * self.usual) - self.usual) * SHARE if self.usual else took

    def next_at(self, held: Held, moved: bool) -> float:
        """When the next one is to begin, the one before being done; `NEVER` where there is nothing to write.

        `moved`: the position is another than the last one written.
        """
        options = self._options
        behind = held.rows >= options.batch_rows // 2
        air, longest = (AIR_BEHIND, LONGEST_GAP_BEHIND_S) if behind else (AIR, LONGEST_GAP_S)
        earliest = self._ended + max(options.checkpoint_gap_ms / 1000, min(self.usual * air, longest))
        if held.outputs or held.rows >= options.checkpoint_rows:
            return earliest
        if held.rows >= FEW_ROWS or held.touched:
            return max(earliest, self._began + options.checkpoint_interval_ms / 1000)
        if held.rows or held.effects or held.ticked or moved:
            return max(earliest, self._began + QUIET_S)
        return NEVER
