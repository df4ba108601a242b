"""Moments on the wall clock of a zone: does a time lie on these weekdays, in this part of the day, on no holiday.

Zones come from the machine's (or the `tzdata` package's) database of IANA; given the same database the answers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import get_args
from zoneinfo import ZoneInfo

from schemas.conditions import During, Weekday, known_zone

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = get_args(Weekday)
_LAST_MS = 253_370_764_800_000
"""The year 9999: what lies beyond is on no calendar of Python's."""


def local(at: int, zone: ZoneInfo) -> datetime:
    """Milliseconds since the epoch, on the wall clock of the zone."""
    return (_EPOCH + timedelta(milliseconds=at)).astimezone(zone)


def within(span: During, facts: Mapping[str, object]) -> bool:
    """Whether the moment that the facts name lies in the span; where they name none, it does not."""
    at = facts.get(span.field)
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not 86_400_000 <= at < _LAST_MS:
        return False
    here = local(int(at), _zone_of(span, facts))
    day = here
    if span.start is not None and span.end is not None:
        time = f"{here:%H:%M}"
        if span.start < span.end:
            if not span.start <= time < span.end:
                return False
        elif time < span.end:
            day = here - _DAY  # the night began the day before
        elif time < span.start:
            return False
    return (span.weekdays is None or _DAYS[day.weekday()] in span.weekdays) and day.date() not in span.holidays


def _zone_of(span: During, facts: Mapping[str, object]) -> ZoneInfo:
    own = facts.get(span.zone_field) if span.zone_field is not None else None
    if isinstance(own, str):
        found = _known(own)
        if found is not None:
            return found
    return known_zone(span.zone)


@lru_cache(maxsize=1024)
def _known(name: str) -> ZoneInfo | None:
    try:
        return known_zone(name)
    except ValueError:
        return None
