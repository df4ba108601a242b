"""Who is in a segment, page by page, and what is kept of one user: METER's state, read by a replica of this process."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal, Protocol

from pydantic import BaseModel

from core.meter.profiles import Profile
from core.predict.population import Estimate
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


class UserProfile(BaseModel):
    """What is kept of one user of a product."""

    tenant: str
    product: str
    user: str
    first_seen: Millis
    """The earliest event, however late it came."""
    last_seen: Millis
    events: int
    """How often: events of every type."""
    active_days: list[Millis]
    """Beginnings of the UTC days with an event, ascending, from 27 days before the product's newest day on."""
    first_use: Literal["organic", "attributed"]
    """Whether a campaign or a command led to the first event."""
    read_at: Millis


class Inactivity(BaseModel):
    """How likely a user does nothing for some days, and what that is worth."""

    tenant: str
    product: str
    user: str
    days: int
    probability: float
    trusted: bool
    """Whether the model is calibrated (its error at most 0.05) and better than the common share; act on nothing else."""
    age_days: float
    """Days since the first event; like the next two at most as far back as the model looks (28 less `days`)."""
    gap_days: float
    """Days since the last day with an event."""
    active_days: float
    """Days with an event."""
    users: int
    """Whom the model learnt from: users of the product in the same partition."""
    auc: float
    """As measured on users that the fit had not seen, and so are the next three."""
    brier: float
    base_brier: float
    """That of the common share."""
    calibration_error: float
    read_at: Millis


class People(Protocol):
    """Reads METER's state. It is expensive: the caller sees to it that one question runs at a time."""

    async def segment(self, segment: Segment) -> list[str]:
        """The users of a segment, sorted."""
        ...

    async def profile(self, tenant: str, product: str, user: str) -> Profile | None:
        """One user's profile; None for one who was not seen."""
        ...

    async def inactivity(self, tenant: str, product: str, user: str, days: int) -> Estimate | None:
        """How likely a user does nothing for some days; None for one who was not seen, or where too few teach."""
        ...


class Members:
    """Segments and profiles by need, one reading at a time."""

    def __init__(self, people: People, clock: Callable[[], int]) -> None:
        self._people = people
        self._clock = clock
        self._lists: OrderedDict[Segment, tuple[int, list[str]]] = OrderedDict()
        self._reading = asyncio.Lock()

    def clear(self) -> None:
        """Forget the lists that were read."""
        self._lists.clear()

    async def page(
        self, tenant: str, product: str, feature: str, which: Which, after: str | None, limit: int
    ) -> MemberPage:
        """Up to `limit` users behind `after`."""
        segment = (tenant, product, feature, which)
        async with self._reading:
            found = self._lists.get(segment)
            if found is None or found[0] + FRESH_MS < self._clock():
                users = await self._people.segment(segment)
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

    async def profile(self, tenant: str, product: str, user: str) -> UserProfile | None:
        """One user's profile as of the last checkpoint; None for one who was not seen."""
        async with self._reading:
            found = await self._people.profile(tenant, product, user)
            read_at = self._clock()
        if found is None:
            return None
        return UserProfile(tenant=tenant, product=product, user=user, read_at=read_at, **found._asdict())

    async def inactivity(self, tenant: str, product: str, user: str, days: int) -> Inactivity | None:
        """One user's prospects as of the last checkpoint; None for one who was not seen, or where too few teach."""
        async with self._reading:
            found = await self._people.inactivity(tenant, product, user, days)
            read_at = self._clock()
        if found is None:
            return None
        return Inactivity(tenant=tenant, product=product, user=user, read_at=read_at, **found._asdict())
