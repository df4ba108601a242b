"""Triggers that know time: schedules, and those that remember what a subject did. All in event time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas import recurrence
from schemas.conditions import Bounded, Zone
from schemas.envelope import SubjectKind, Word
from schemas.events import EventsTopic
from schemas.limits import MAX_NAME_CHARS, MAX_SECONDS, MAX_STEPS, MAX_TIMES

Topic = EventsTopic
Span = Annotated[int, Field(ge=1, le=MAX_SECONDS)]


class OnSchedule(Word):
    """Due at recurring times on a zone's wall clock; the subject is the product. Judged when event time has passed the time due."""

    kind: Literal["schedule"] = "schedule"
    cron: Annotated[str, Field(max_length=200)] | None = None
    """Minute, hour, day of the month, month, day of the week."""
    rrule: Annotated[str, Field(max_length=500)] | None = None
    """RFC 5545, daily or rarer."""
    start: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$")] | None = None
    """Wall clock of the zone; nothing is due before. Of an RRULE the first time, 2020-01-01T00:00 if absent."""
    zone: Zone = "UTC"
    product: Annotated[str, Field(max_length=MAX_NAME_CHARS)] | None = None
    """Absent: every product of the tenant."""
    catch_up: Literal["skip", "once", "all"] = "once"
    """Of times that are more than an hour past when they are reached (an outage, a replay): none, the last one, or all of a month."""

    @model_validator(mode="after")
    def _due(self) -> OnSchedule:
        if (self.cron is None) == (self.rrule is None):
            raise ValueError("give one of cron and rrule")
        recurrence.check(self.cron, self.rrule, self.start, self.zone)
        return self

    def after(self, at: int) -> int | None:
        """The first time due later than `at`."""
        return recurrence.next_due(self.cron, self.rrule, self.start, self.zone, at)

    def before(self, at: int) -> int | None:
        """The last time due earlier than `at`."""
        return recurrence.last_due(self.cron, self.rrule, self.start, self.zone, at)


class Happening(Word):
    """A single event of this topic for which `where` holds."""

    topic: Topic
    where: Bounded = None


class OnCount(Word):
    """`times` matching events of one subject within `within_s` seconds. Then counting begins anew."""

    kind: Literal["count"] = "count"
    topic: Topic
    where: Bounded = None
    subject: SubjectKind = "user"
    times: Annotated[int, Field(ge=2, le=MAX_TIMES)]
    within_s: Span


class OnSequence(Word):
    """These, one after the other (others may lie between), the last no more than `within_s` seconds after the first."""

    kind: Literal["sequence"] = "sequence"
    steps: Annotated[list[Happening], Field(min_length=2, max_length=MAX_STEPS)]
    subject: SubjectKind = "user"
    within_s: Span


class OnAbsence(Word):
    """`first`, and no `then` within `within_s` seconds after it. Wakes when event time has passed the deadline."""

    kind: Literal["absence"] = "absence"
    first: Happening
    then: Happening
    subject: SubjectKind = "user"
    within_s: Span
    restart: bool = False
    """Whether `first` again, while waiting, begins the wait anew."""


class OnInactivity(Word):
    """A subject that has done this does it no more for `after_s` seconds. Once, until it does it again."""

    kind: Literal["inactivity"] = "inactivity"
    topic: Topic
    where: Bounded = None
    subject: SubjectKind = "user"
    after_s: Span


Remembering = OnCount | OnSequence | OnAbsence | OnInactivity


def happenings(trigger: Remembering) -> list[Happening]:
    """The events that the trigger waits for."""
    match trigger:
        case OnSequence():
            return trigger.steps
        case OnAbsence():
            return [trigger.first, trigger.then]
        case OnCount() | OnInactivity():
            return [Happening(topic=trigger.topic, where=trigger.where)]
