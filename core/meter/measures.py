"""What every batch of events is measured by, whichever task reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from core.batch import Batch, Int64s
from core.effects import Count, Effect, Observe
from core.meter.clocks import AHEAD_MS
from core.meter.dedupe import Seen


def measured(
    batch: Batch, seen: Seen, accepted: Int64s, times: Int64s, keyed: Callable[[int], bool]
) -> Iterator[Effect]:
    """Its size, rows ahead of the broker, identities forgotten early, and a sampled row that is not keyed as it should be.

    `accepted`: positions in the batch; `times`: when those rows occurred; `keyed`: whether the one at a place among them is.
    """
    yield Observe("uptake_batch_rows", len(batch), (batch.topic,))
    if seen.shortened:
        yield Count("uptake_dedupe_shortened_total", seen.shortened)
        seen.shortened = 0
    if len(accepted):
        ahead = int((times > batch.timestamps[accepted] + AHEAD_MS).sum())
        if ahead:
            yield Count("uptake_rows_ahead_total", ahead, (batch.topic,))
        if not keyed(int(batch.next_offset % len(accepted))):
            yield Count("uptake_key_mismatch_total", 1, (batch.topic,))
