"""A source with holes: a topic that was compacted before anybody read it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.chaos.registry import kind
from app.chaos.stage import NothingThere, Stage


@kind("compacted", "a compacted topic with holes becomes a source", track="neighbours", lasts_s=(6.0, 8.0))
async def compacted(stage: Stage) -> AsyncIterator[str]:
    """METER's processes start again to read it. It stays a source."""
    told = await stage.compacted.read_next()
    if told is None:
        raise NothingThere("every prepared topic is a source already")
    yield told
