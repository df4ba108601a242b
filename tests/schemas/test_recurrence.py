"""When schedules are due: DST, gaps, leap years; and those that never are."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.triggers import OnSchedule


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def text(at: int | None) -> str | None:
    return None if at is None else f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        # 2:30 does not exist on the 29th of March: right after the gap
        ({"cron": "30 2 * * *"}, "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
        ({"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"}, "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
        # 2:30 comes twice on the 25th of October: the first
        ({"cron": "30 2 * * *"}, "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        ({"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"}, "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        # every hour is every hour
        ({"cron": "0 * * * *"}, "2026-10-24 23:30", ["2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"]),
        ({"cron": "0 9 * * mon"}, "2026-07-01 00:00", ["2026-07-06 07:00", "2026-07-13 07:00"]),
        ({"cron": "0 9 29 2 *"}, "2026-07-01 00:00", ["2028-02-29 08:00"]),
        ({"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9"}, "2026-07-01 00:00", ["2026-07-31 07:00", "2026-08-28 07:00"]),
        ({"rrule": "FREQ=WEEKLY;INTERVAL=2", "start": "2026-07-01T08:00"}, "2026-07-02 00:00", ["2026-07-15 06:00"]),
        ({"cron": "0 9 * * *", "start": "2027-01-01T10:00"}, "2026-07-01 00:00", ["2027-01-02 08:00"]),
    ],
)
def test_due(schedule: dict[str, str], after: str, due: list[str]) -> None:
    trigger = OnSchedule.model_validate({"zone": "Europe/Berlin", **schedule})
    at = ms(after)
    found = []
    for _ in due:
        following = trigger.after(at)
        assert following is not None and following > at
        at = following
        found.append(text(at))
    assert found == due
    for earlier, later in pairwise(found):
        assert later is not None and text(trigger.before(ms(later))) == earlier


@settings(max_examples=60, deadline=None)
@given(
    st.integers(ms("2026-01-01"), ms("2027-12-31")),
    st.sampled_from(["*/17 * * * *", "30 1-3 * * *", "0 9 * * mon-fri", "59 23 28-31 * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_before_is_the_other_side_of_after(at: int, cron: str, zone: str) -> None:
    trigger = OnSchedule(cron=cron, zone=zone)
    due = trigger.after(at)
    assert due is not None and due > at and due % 60_000 == 0
    before = trigger.before(due)
    assert before is not None and before <= at
    assert trigger.after(before) == due
    assert trigger.after(due - 1) == due


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ({}, "one of cron and rrule"),
        ({"cron": "0 9 * * *", "rrule": "FREQ=DAILY"}, "one of cron and rrule"),
        ({"cron": "0 0 30 2 *"}, "day-of-month"),
        ({"cron": "0 0 31 4,6 *"}, "never due|day"),
        ({"cron": "61 * * * *"}, "minute"),
        ({"cron": "* * * * * *"}, "five fields"),
        ({"cron": "@daily"}, "five fields"),
        ({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "never due"),
        ({"rrule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}, "never due"),
        ({"rrule": "FREQ=DAILY;UNTIL=19990101T000000"}, "never due"),
        ({"rrule": "FREQ=SECONDLY"}, "FREQ is one of"),
        ({"rrule": "FREQ=MONTHLY;BYDAY=99MO"}, "BYDAY counts to 5"),
        ({"rrule": "FREQ=YEARLY;BYMONTH=3;BYDAY=-6SU"}, "BYDAY counts to 5"),
        ({"rrule": "FREQ=YEARLY;BYDAY=MO,54TU"}, "BYDAY counts to 53"),
        ({"rrule": "FREQ=DAILY;COUNT=99999999"}, "COUNT"),
        ({"rrule": "FREQ=DAILY;INTERVAL=99999999999"}, "INTERVAL"),
        ({"rrule": "FREQ=DAILY;BYMINUTE=" + ",".join(map(str, range(60)))}, "at most 24"),
        ({"rrule": "FREQ=DAILY;BYDAY=XX"}, "BYDAY|RRULE|invalid|XX"),
        ({"rrule": "every day"}, "FREQ=…"),
        ({"cron": "0 9 * * *", "zone": "Mars/Base"}, "IANA"),
        ({"cron": "0 9 * * *", "start": "2026-02-31T00:00"}, "day|month"),
        ({"rrule": "FREQ=DAILY", "start": "9999-12-31T23:59", "zone": "America/New_York"}, "before 3000"),
        ({"cron": "0 9 * * *", "start": "0001-01-01T00:00", "zone": "Europe/Berlin"}, "from 1900"),
    ],
)
def test_refused(schedule: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        OnSchedule.model_validate(schedule)
