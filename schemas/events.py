"""Events: what happened, past tense. The two hot ones are read by METER with a msgspec twin (`core.meter.decode`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from schemas.envelope import Millis, OpenWord, Tenant

EventId = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
OccurredAt = Annotated[
    Millis | datetime, Field(description="RFC 3339 with a time zone, or milliseconds since the epoch.")
]


class Event(OpenWord):
    """What every event has. Its identity is (tenant, source, id): a second one with the same identity is a duplicate."""

    id: EventId
    tenant: Tenant
    product: Name
    type: Name
    occurred_at: OccurredAt
    properties: dict[str, JsonValue] | None = None


class UsageEvent(Event):
    """Somebody used something. Topic `events.usage`, key `tenant|user`.

    `type` is `feature.used` for a use of a feature; any other type counts the user as active and nothing else.
    """

    user: Name
    feature: Name | None = None
    account: Name | None = None
    attribution: Annotated[str, Field(pattern=r"^(organic|campaign:.+|command:.+)$")] | None = Field(
        default=None, description="What led to this use; absent means organic."
    )

    @model_validator(mode="after")
    def _feature_named(self) -> UsageEvent:
        if self.type == "feature.used" and self.feature is None:
            raise ValueError("feature.used needs a feature")
        return self


class PerformanceEvent(Event):
    """A request ended. Topic `events.performance`, key `tenant|service` (or `tenant|feature`)."""

    type: Literal["request.completed"]
    service: Name | None = None
    feature: Name | None = None
    latency_ms: Annotated[float, Field(ge=0)]
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    error: bool | str | None = None
    user: Name | None = None

    @model_validator(mode="after")
    def _about_something(self) -> PerformanceEvent:
        if self.service is None and self.feature is None:
            raise ValueError("request.completed needs a service or a feature")
        return self


class ContactEvent(Event):
    """Something about a person one may write to. Topic `events.contacts`."""

    contact: Name


class CommerceEvent(Event):
    """A cart, an order, a purchase. Topic `events.commerce`."""

    user: Name


class EngagementEvent(Event):
    """A message was opened, clicked, answered, bounced. Topic `events.engagement`."""

    contact: Name


class FeedbackEvent(Event):
    """A rating, a review, a survey answer. Topic `events.feedback`."""

    user: Name | None = None
    rating: Annotated[float, Field(ge=1, le=5)] | None = None


class DevelopmentEvent(Event):
    """A pull request, a build, a deployment, an incident. Topic `events.development`."""

    subject: Name


class MarketEvent(Event):
    """Something outside: a competitor, a trend. Topic `events.market`."""

    subject: Name


PRODUCTS_A_MARKER = 500
"""Products that one `begun` may name: below a record's largest size. More of them take several, one after the other."""


class ReplayMarker(OpenWord):
    """A control record that `send` and `simulate` write into every partition of both events topics.

    Between `begun` and `ended` the partition's idle clock stands still; `progressed` says that every row that follows in
    this partition occurred at or after `at` less the declared disorder. `act` lets data older than a day act. `begun` may name
    the products of the rows to come, with the earliest row's time as `at`: those that are new begin there, not at the clock.
    """

    type: Literal["uptake.replay.begun", "uptake.replay.progressed", "uptake.replay.ended"]
    id: EventId
    replay: Name
    at: Millis
    act: bool = False
    products: list[tuple[Tenant, Name]] = Field(
        default=[],
        max_length=PRODUCTS_A_MARKER,
        description="Of `begun`: (tenant, product) of the rows to come; their history is folded where new.",
    )
