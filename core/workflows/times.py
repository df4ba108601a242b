"""When a wait ends: local clocks, dates and business hours, in milliseconds. Zones and their changes come from the IANA database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from schemas.envelope import MAX_MILLIS
from schemas.workflows import DateField, Lasting, LocalTime, OpenHours, Until

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOOK_AHEAD_DAYS: Final = 800
"""Holidays and weekends longer than this are no calendar."""
_LAST: Final = 253_370_764_800_000
"""The year 9999, where Python's calendar ends."""


class NoSuchTime(ValueError):
    """The facts hold no such date, or the calendar never opens."""


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo:
    """The zone. Raises `ValueError` where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"no time zone {name!r}; IANA names are like Europe/Paris") from error


def ends(until: Until, now: int, facts: Mapping[str, object]) -> int:
    """When a wait that begins at `now` ends; never before. Facts are flat. Raises `NoSuchTime`."""
    match until:
        case Lasting():
            found = now + until.span * 1000
        case LocalTime():
            found = _next_clock(until, now, _zone(until.zone, until.zone_field, facts))
        case DateField():
            found = _moment(facts.get(until.field), until.zone) + until.offset * 1000
        case OpenHours():
            found = _next_open(until, now, _zone(until.zone, until.zone_field, facts))
    return min(max(now, found), MAX_MILLIS)


def _zone(name: str, field: str | None, facts: Mapping[str, object]) -> ZoneInfo:
    own = facts.get(field) if field is not None else None
    if isinstance(own, str) and 0 < len(own) <= 64:
        try:
            return zone_named(own)
        except ValueError:
            pass
    return zone_named(name)


def _next_clock(until: LocalTime, now: int, zone: ZoneInfo) -> int:
    today, at = _local(now, zone).date(), time.fromisoformat(until.at)
    for ahead in range(9):
        day = today + timedelta(days=ahead)
        if until.days and _DAYS[day.weekday()] not in until.days:
            continue
        found = _at(day, at, zone)
        if found >= now:
            return found
    raise NoSuchTime(f"{until.at} never comes")


def _next_open(until: OpenHours, now: int, zone: ZoneInfo) -> int:
    today = _local(now, zone).date()
    opens, closes = time.fromisoformat(until.opens), time.fromisoformat(until.closes)
    holidays = set(until.holidays)
    for ahead in range(-1, _LOOK_AHEAD_DAYS):
        day = today + timedelta(days=ahead)
        if _DAYS[day.weekday()] not in until.days or day.isoformat() in holidays:
            continue
        begin = _at(day, opens, zone)
        end = _at(day if closes > opens else day + timedelta(days=1), closes, zone)
        if now < end:
            return max(now, begin)
    raise NoSuchTime("the calendar has no open hour within two years")


def _moment(value: object, zone: str) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value <= _LAST:
            raise NoSuchTime(f"{value} is no time in milliseconds")
        return int(value)
    if isinstance(value, str) and len(value) <= 64:
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise NoSuchTime("a text that is no RFC 3339 date or time") from None
        if parsed.tzinfo is None:
            return _at(parsed.date(), parsed.time(), zone_named(zone))
        return _millis(parsed)
    raise NoSuchTime("no date")


def _local(now: int, zone: ZoneInfo) -> datetime:
    if now > _LAST:
        raise NoSuchTime("beyond the calendar")
    return datetime.fromtimestamp(now / 1000, UTC).astimezone(zone)


def _at(day: date, at: time, zone: ZoneInfo) -> int:
    """The first moment of that local time; one that the clocks skip is read with the offset before the change: an hour later."""
    return _millis(datetime.combine(day, at, zone))


def _millis(moment: datetime) -> int:
    return round((moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
