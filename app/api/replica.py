"""A read-only replica of METER's state, for questions about people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.api.members import Segment
from app.api.problems import Problem
from app.settings import Settings
from core.definitions import Catalogue


def segment_reader(settings: Settings, catalogue: Catalogue) -> Callable[[Segment], Awaitable[list[str]]]:
    """A function that gives the users of a segment, sorted."""

    async def read(segment: Segment) -> list[str]:
        raise Problem(503, "segments-unavailable", "METER's state is not readable here yet: try again later")

    return read
