"""When waits end: zones, changes of the clocks, weekends, holidays, dates."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.workflows.times import NoSuchTime, ends
from schemas.workflows import DateField, LocalTime, OpenHours


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("until", "now", "end"),
    [
        (LocalTime(at="09:00"), "2026-01-05T08:59:00Z", "2026-01-05T09:00:00Z"),
        (LocalTime(at="09:00"), "2026-01-05T09:00:00Z", "2026-01-05T09:00:00Z"),
        (LocalTime(at="09:00"), "2026-01-05T09:00:01Z", "2026-01-06T09:00:00Z"),
        (LocalTime(at="09:00", days=["mon"]), "2026-01-05T10:00:00Z", "2026-01-12T09:00:00Z"),
        (LocalTime(at="09:00", zone="Asia/Tokyo"), "2026-01-05T10:00:00Z", "2026-01-06T00:00:00Z"),
        # the clocks of Paris skip 02:30 on 29 March 2026: an hour later
        (LocalTime(at="02:30", zone="Europe/Paris"), "2026-03-28T22:00:00Z", "2026-03-29T03:30:00+02:00"),
        # and show 02:30 twice on 25 October: the first
        (LocalTime(at="02:30", zone="Europe/Paris"), "2026-10-24T22:00:00Z", "2026-10-25T02:30:00+02:00"),
        (LocalTime(at="09:00", zone="Europe/Paris"), "2026-03-28T12:00:00Z", "2026-03-29T09:00:00+02:00"),
        (OpenHours(), "2026-01-05T12:00:00Z", "2026-01-05T12:00:00Z"),
        (OpenHours(), "2026-01-05T17:00:00Z", "2026-01-06T09:00:00Z"),
        (OpenHours(), "2026-01-09T18:00:00Z", "2026-01-12T09:00:00Z"),
        (OpenHours(holidays=["2026-01-12"]), "2026-01-09T18:00:00Z", "2026-01-13T09:00:00Z"),
        (OpenHours(opens="22:00", closes="06:00"), "2026-01-06T03:00:00Z", "2026-01-06T03:00:00Z"),
        (OpenHours(opens="22:00", closes="06:00"), "2026-01-06T07:00:00Z", "2026-01-06T22:00:00Z"),
        (DateField(field="renewal", offset=-86_400), "2026-01-05T09:00:00Z", "2026-02-27T12:00:00Z"),
        (DateField(field="day", zone="Asia/Tokyo"), "2026-01-05T09:00:00Z", "2026-02-27T15:00:00Z"),
        (DateField(field="past"), "2026-01-05T09:00:00Z", "2026-01-05T09:00:00Z"),
    ],
)
def test_ends(until: LocalTime | OpenHours | DateField, now: str, end: str) -> None:
    facts = {"renewal": "2026-02-28T12:00:00Z", "day": "2026-02-28", "past": 1_000}
    assert ends(until, ms(now), facts) == ms(end)


def test_the_subjects_own_zone_where_it_has_one() -> None:
    until = LocalTime(at="09:00", zone="UTC", zone_field="zone")
    assert ends(until, ms("2026-01-05T10:00:00Z"), {"zone": "Asia/Tokyo"}) == ms("2026-01-06T00:00:00Z")
    for bad in ({}, {"zone": "Mars"}, {"zone": 3}, {"zone": "../../etc/passwd"}):
        assert ends(until, ms("2026-01-05T10:00:00Z"), bad) == ms("2026-01-06T09:00:00Z")


@pytest.mark.parametrize("value", [None, "tomorrow", True, -1, float("inf"), float("nan"), [], 1e300])
def test_no_date(value: object) -> None:
    with pytest.raises(NoSuchTime):
        ends(DateField(field="x"), 0, {"x": value})
