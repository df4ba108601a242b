"""Weekdays, parts of the day and holidays, on the wall clock of a zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.conditions import fields, holds
from schemas.conditions import During


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


OFFICE = During.model_validate(
    {"weekdays": ["mon", "tue", "wed", "thu", "fri"], "start": "09:00", "end": "17:00", "zone": "Europe/Berlin",
     "holidays": ["2026-12-25"]}
)  # fmt: skip
NIGHT = During.model_validate({"weekdays": ["fri"], "start": "22:00", "end": "06:00", "zone": "America/New_York"})


@pytest.mark.parametrize(
    ("span", "at", "expected"),
    [
        (OFFICE, "2026-07-01 07:00", True),  # Wednesday, 9:00 in summer
        (OFFICE, "2026-07-01 06:59:59.999", False),
        (OFFICE, "2026-07-01 14:59", True),
        (OFFICE, "2026-07-01 15:00", False),
        (OFFICE, "2026-12-02 08:00", True),  # in winter the same hour is another one of UTC
        (OFFICE, "2026-12-02 07:00", False),
        (OFFICE, "2026-07-04 08:00", False),  # Saturday
        (OFFICE, "2026-12-25 10:00", False),  # Friday, and a holiday
        (NIGHT, "2026-07-04 03:00", True),  # 23:00 on Friday
        (NIGHT, "2026-07-04 09:59", True),  # 5:59 on Saturday is Friday's night
        (NIGHT, "2026-07-04 10:00", False),
        (NIGHT, "2026-07-03 09:00", False),  # Friday morning is Thursday's night
    ],
)
def test_spans(span: During, at: str, expected: bool) -> None:
    assert holds(span, {"at": ms(at)}) is expected


def test_the_subjects_own_zone() -> None:
    morning = During(start="08:00", end="09:00", zone_field="properties.timezone")
    assert fields(morning) == {"at", "properties.timezone"}
    tokyo = {"at": ms("2026-07-01 23:30"), "properties.timezone": "Asia/Tokyo"}
    assert holds(morning, tokyo)
    assert not holds(morning, {**tokyo, "properties.timezone": "UTC"})
    for unknown in ("Nowhere/Land", "../../etc/passwd", "", 5, None):
        facts = {"at": ms("2026-07-01 08:30"), "properties.timezone": unknown}
        assert holds(morning, facts), "the zone of the condition itself"


@pytest.mark.parametrize("at", [None, "2026-07-01", True, float("nan"), float("inf"), -5, 1 << 62])
def test_no_moment(at: object) -> None:
    assert not holds(OFFICE, {"at": at})


@given(st.integers(ms("2000-01-01"), ms("2040-01-01")), st.sampled_from(["00:00", "09:30", "22:00", "23:59"]),
       st.sampled_from(["00:00", "06:00", "17:15"]))  # fmt: skip
def test_beside_the_wall_clock(at: int, start: str, end: str) -> None:
    span = During(start=start, end=end, zone="Europe/Berlin", weekdays=["sat", "sun"])
    here = datetime.fromtimestamp(at / 1000, ZoneInfo("Europe/Berlin"))
    minute = here.hour * 60 + here.minute
    first, last = (int(t[:2]) * 60 + int(t[3:]) for t in (start, end))
    weekday = here.weekday()
    if first < last:
        expected = first <= minute < last and weekday >= 5
    else:
        expected = (minute >= first and weekday >= 5) or (minute < last and (weekday - 1) % 7 >= 5)
    assert holds(span, {"at": at}) is expected
