"""Faults of those who produce: wrong clocks, doubled and disordered rows, transactions that are aborted."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.chaos.registry import kind
from app.chaos.stage import Stage

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
SKEWS = (4 * MINUTE_MS, -5 * MINUTE_MS, -3 * HOUR_MS, 20_000 * HOUR_MS)
"""A little ahead, late within grace, late beyond it, years ahead: those are dead letters."""
LASTS_S = (5.0, 8.0)


@kind("skew", "the clocks of a third of the producers are wrong", track="neighbours", lasts_s=LASTS_S)
async def skew(stage: Stage) -> AsyncIterator[str]:
    """Each time by another amount."""
    by = SKEWS[stage.turn("skew") % len(SKEWS)]
    stage.feed.habits.skew_ms = by
    try:
        yield f"{by / HOUR_MS:+.2g} h"
    finally:
        stage.feed.habits.skew_ms = 0


@kind("duplicates", "two producers write the same rows", track="neighbours", lasts_s=LASTS_S)
async def duplicates(stage: Stage) -> AsyncIterator[str]:
    """Side by side, so that copies lie close to each other."""
    stage.feed.habits.twice = True
    try:
        yield "every row twice"
    finally:
        stage.feed.habits.twice = False


@kind("disorder", "rows leave in any order", track="neighbours", lasts_s=LASTS_S)
async def disorder(stage: Stage) -> AsyncIterator[str]:
    """Those of about a second among each other, which is minutes of event time."""
    stage.feed.habits.shuffled = True
    try:
        yield "rows of a second shuffled"
    finally:
        stage.feed.habits.shuffled = False


@kind("aborts", "an upstream writes in transactions and aborts some", track="neighbours", lasts_s=LASTS_S)
async def aborts(stage: Stage) -> AsyncIterator[str]:
    """What it aborts stays in the log, between marks that nobody reads: offsets have holes."""
    before = stage.feed.aborted
    stage.feed.habits.transactions = True
    try:
        yield f"after {before} aborted so far"
    finally:
        stage.feed.habits.transactions = False
