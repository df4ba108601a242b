"""When a recurring schedule is due: cron (cronsim: Debian's cron, DST too) and RRULE (python-dateutil), on a zone's wall clock.

A time that the clock skips is due right after the gap; one that the clock shows twice is due once, the first time (but what
is due every hour is due every hour). Pure: the same schedule and time give the same answer, given the same zone database.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from dateutil.rrule import rrule, rrulestr

from schemas.conditions import known_zone

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = 60_000
_AHEAD: Final = timedelta(days=12 * 366)
"""How far ahead an RRULE is looked at: past the longest gap between two 29ths of February."""
_FREQUENCIES: Final = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_FIRST: Final = "2020-01-01T00:00"
_MAX_A_DAY: Final = 24
_FIRST_YEAR: Final = "1900"
_LAST_YEAR: Final = "3000"
_LAST_MS: Final = 32_503_680_000_000
"""The year 3000: nothing is due beyond."""


@lru_cache(maxsize=4096)
def check(cron: str | None, recurrence: str | None, start: str | None, zone: str) -> None:
    """Raises `ValueError`, in one line, where the schedule cannot be read or is never due."""
    if start is not None and not _FIRST_YEAR <= start[:4] < _LAST_YEAR:
        raise ValueError(f"start: a year from {_FIRST_YEAR} on and before {_LAST_YEAR}")
    first = 0 if start is None else _ms(_localised(datetime.fromisoformat(start), known_zone(zone))) - 1
    if cron is not None and len(cron.split()) != 5:
        raise ValueError("a cron schedule has five fields: minute, hour, day of the month, month, day of the week")
    if recurrence is not None:
        _check_recurrence(recurrence)
    if next_due(cron, recurrence, start, zone, max(first, 946_684_800_000)) is None:
        raise ValueError(f"{(cron or recurrence or '')[:100]!r} is never due: no such day is on the calendar")


def next_due(cron: str | None, recurrence: str | None, start: str | None, zone: str, after: int) -> int | None:
    """The first time due later than `after` (milliseconds); None where there is none. Whole minutes."""
    return _look(cron, recurrence, start, zone, after, later=True)


def last_due(cron: str | None, recurrence: str | None, start: str | None, zone: str, before: int) -> int | None:
    """The last time due earlier than `before` (milliseconds); None where there is none."""
    return _look(cron, recurrence, start, zone, before, later=False)


def _look(
    cron: str | None, recurrence: str | None, start: str | None, zone: str, at: int, *, later: bool
) -> int | None:
    if not 0 <= at < _LAST_MS:
        return None
    where = known_zone(zone)
    here = (_EPOCH + timedelta(milliseconds=at)).astimezone(where)
    if cron is None:
        return _look_recurring(recurrence or "", start, where, here, later=later)
    try:
        # forwards from the minute that has begun, backwards from the one that has not
        edge = here if later or at % _MINUTE == 0 else here + timedelta(minutes=1)
        edge = edge.replace(second=0, microsecond=0)
        found = _ms(next(CronSim(cron, edge, reverse=not later)))
    except StopIteration:
        return None
    except CronSimError as error:
        raise ValueError(f"cron {cron[:100]!r}: {str(error)[:1].lower()}{str(error)[1:]}") from None
    first = 0 if start is None else _ms(_localised(datetime.fromisoformat(start), where))
    if found >= first:
        return found
    return _look(cron, None, None, zone, first - 1, later=True) if later else None


def _look_recurring(text: str, start: str | None, zone: ZoneInfo, here: datetime, *, later: bool) -> int | None:
    rule = _recurring(text, start or _FIRST)
    wall = here.replace(tzinfo=None)
    at = _ms(here)
    if not later:
        before = rule.before(wall + timedelta(hours=3))  # a gap moves what is due later, by an hour or so
        while before is not None and _ms(_localised(before, zone)) >= at:
            before = rule.before(before)
        return None if before is None else _ms(_localised(before, zone))
    for due in rule.xafter(wall - timedelta(hours=3), inc=True):
        if due > max(wall, datetime.fromisoformat(start or _FIRST)) + _AHEAD:
            break
        if _ms(_localised(due, zone)) > at:
            return _ms(_localised(due, zone))
    return None


@lru_cache(maxsize=1024)
def _recurring(text: str, start: str) -> rrule:
    begins = datetime.fromisoformat(start)
    made = rrulestr(text, dtstart=begins)
    if not isinstance(made, rrule):
        raise ValueError("write one RRULE")
    last = getattr(made, "_until", None)
    horizon = max(begins, datetime.fromisoformat("2100-01-01T00:00"))
    return made.replace(until=horizon) if last is None or last > horizon else made


def _check_recurrence(text: str) -> None:
    """What could keep the search busy for long is refused: seconds, minutes, counts."""
    parts = dict(part.partition("=")[::2] for part in text.upper().removeprefix("RRULE:").split(";"))
    if not re.fullmatch(r"[A-Za-z0-9=;:,+-]{1,500}", text) or "FREQ" not in parts:
        raise ValueError(
            "an RRULE is FREQ=… and more such pairs with ; between them, like FREQ=WEEKLY;BYDAY=MO;BYHOUR=9"
        )
    most = 53 if parts["FREQ"] == "YEARLY" and "BYMONTH" not in parts else 5
    if any(int(n) > most for n in re.findall(r"(\d{1,500})[A-Z]", parts.get("BYDAY", ""))):
        raise ValueError(f"BYDAY counts to {most} here: 2MO is the second Monday, -1FR the last Friday")
    if parts["FREQ"] not in _FREQUENCIES:
        raise ValueError(f"FREQ is one of {', '.join(_FREQUENCIES)}; for what is due more often write cron")
    if "COUNT" in parts or "BYSECOND" in parts or "DTSTART" in parts or not parts.get("INTERVAL", "1").isdigit():
        raise ValueError("COUNT, BYSECOND and DTSTART are no part of it: write UNTIL, whole minutes, and `start`")
    if len(parts.get("INTERVAL", "1")) > 4:
        raise ValueError("INTERVAL is at most 9999")
    times = len(parts.get("BYHOUR", "0").split(",")) * len(parts.get("BYMINUTE", "0").split(","))
    if times > _MAX_A_DAY:
        raise ValueError(f"due {times} times a day; at most {_MAX_A_DAY}: write cron")
    try:
        _recurring(text, _FIRST)
    except ValueError:
        raise
    except Exception as error:  # whatever its parser meets
        raise ValueError(f"RRULE {text[:100]!r}: {str(error)[:100] or type(error).__name__}") from None


def _localised(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the zone's clock shows this, the first one; in a gap, the moment right after it."""
    there = wall.replace(tzinfo=zone)
    back = there.astimezone(UTC).astimezone(zone)
    if back.replace(tzinfo=None) == wall:
        return there
    # skipped: `there` was read with the offset before the gap, so the gap ends between the two readings
    before, after = there.replace(fold=0).utcoffset(), there.replace(fold=1).utcoffset()
    moved = abs((after or timedelta()) - (before or timedelta()))
    edge = (there.astimezone(UTC) - moved).replace(second=0)
    while edge.astimezone(zone).replace(tzinfo=None) < wall:
        edge += timedelta(minutes=1)
    return edge.astimezone(zone)


def _ms(moment: datetime) -> int:
    return int((moment.astimezone(UTC) - _EPOCH) / timedelta(milliseconds=1))
