"""Who is in a segment: METER's state, read by a replica of this process, page by page."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from pydantic import BaseModel

from schemas.envelope import Millis

Which = Literal["adopters", "non_adopters", "active_users"]
Segment = tuple[str, str, str, Which]
"""tenant, product, feature, which."""
FRESH_MS: Final = 60_000
"""A list that was read is used this long; pages of one list belong together."""
KEPT: Final = 32
"""Lists kept at most."""


class MemberPage(BaseModel):
    """Some users of a segment, in order of their ids."""

    feature: str
    which: Which
    size: int
    """Of the whole segment, as of `read_at`."""
    read_at: Millis
    members: list[str]
    next: str | None
    """Give it as `after`; null: there is no more."""


class Members:
    """Segments by need. `read` gives a segment's users, sorted; it is expensive, so one runs at a time."""

    def __init__(self, read: Callable[[Segment], Awaitable[list[str]]], clock: Callable[[], int]) -> None:
        self._read = read
        self._clock = clock
        self._lists: OrderedDict[Segment, tuple[int, list[str]]] = OrderedDict()
        self._reading = asyncio.Lock()

    async def page(
        self, tenant: str, product: str, feature: str, which: Which, after: str | None, limit: int
    ) -> MemberPage:
        """Up to `limit` users behind `after`."""
        segment = (tenant, product, feature, which)
        async with self._reading:
            found = self._lists.get(segment)
            if found is None or found[0] + FRESH_MS < self._clock():
                users = await self._read(segment)
                self._lists[segment] = found = (self._clock(), users)
                self._lists.move_to_end(segment)
                while len(self._lists) > KEPT:
                    self._lists.popitem(last=False)
        read_at, users = found
        first = 0 if after is None else bisect_right(users, after)
        page = users[first : first + limit]
        more = first + limit < len(users)
        return MemberPage(
            feature=feature,
            which=which,
            size=len(users),
            read_at=read_at,
            members=page,
            next=page[-1] if more and page else None,
        )
