"""Events: what happened, past tense. The two hot ones are read by METER with a msgspec twin (`core.meter.hot`),
and so are the others (`core.meter.words`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

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


NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "contact.aliased": ("contact", "former"),
    "contact.tagged": ("contact", "tags"),
    "contact.untagged": ("contact", "tags"),
    "contact.stage_changed": ("contact", "stage"),
    "list.joined": ("contact", "list"),
    "list.left": ("contact", "list"),
    "account.updated": ("account",),
    "campaign.joined": ("contact", "campaign"),
    "campaign.moved": ("contact", "campaign", "position"),
    "campaign.left": ("contact", "campaign"),
    "purchase.completed": ("amount",),
    "order.completed": ("amount",),
    "rating.given": ("rating",),
}
"""What an event of this type must have beside what all of its topic have. Types that do not stand here are free."""
MAX_TAGS = 100
MAX_ITEMS = 1_000
Amount = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
Tags = Annotated[list[Name], Field(max_length=MAX_TAGS)]


class SubjectEvent(Event):
    """An event that may be about several subjects at once: rules wait by any of those that it names."""

    user: Name | None = None
    contact: Name | None = None
    account: Name | None = None
    feature: Name | None = None
    service: Name | None = None

    @model_validator(mode="after")
    def _whole(self) -> SubjectEvent:
        for name in NEEDS.get(self.type, ()):
            if getattr(self, name, None) is None:
                raise ValueError(f"{self.type} needs `{name}`")
        return self


class ContactEvent(SubjectEvent):
    """Something about a person one may write to, or about an account. Topic `events.contacts`, key
    `tenant|contact`, or `tenant|account` where no contact is named.

    `contact.identified`, `contact.updated`, `contact.tagged`, `contact.untagged`, `contact.stage_changed`, `contact.aliased`
    (`former`: the name it had before), `list.joined`, `list.left`, `account.updated`, `campaign.joined`, `campaign.moved`,
    `campaign.left`; others may come.
    """

    former: Name | None = None
    """Of `contact.aliased`: the anonymous name whose history is this contact's."""
    tags: Tags | None = None
    list: Name | None = None
    stage: Name | None = None
    """In the customer relationship system."""
    status: Name | None = None
    time_zone: Name | None = None
    score: Amount | None = None
    fields: dict[str, JsonValue] | None = None
    """The sender's own fields; null takes one away."""
    demographics: dict[str, JsonValue] | None = None
    campaign: Name | None = None
    position: Annotated[int, Field(ge=0, le=10_000)] | None = None
    variant: Name | None = None

    @model_validator(mode="after")
    def _about_somebody(self) -> ContactEvent:
        if self.contact is None and self.account is None:
            raise ValueError("needs a `contact` or an `account`")
        return self


class CommerceEvent(SubjectEvent):
    """A cart, an order, a purchase. Topic `events.commerce`, key `tenant|user`.

    `cart.created`, `order.completed`, `purchase.completed` (both with `amount`); others may come.
    """

    user: Name
    amount: Amount | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    items: Annotated[list[dict[str, JsonValue]], Field(max_length=MAX_ITEMS)] | None = None
    cart: Name | None = None
    order: Name | None = None


class EngagementEvent(SubjectEvent):
    """Something about a message, or a form that was filled in. Topic `events.engagement`, key `tenant|contact`.

    `message.sent`, `message.delivered`, `message.opened`, `message.clicked`, `message.replied`, `message.bounced`,
    `form.submitted`; others may come.
    """

    contact: Name
    message: Name | None = None
    campaign: Name | None = None
    channel: Name | None = None
    url: Annotated[str, Field(max_length=2_000)] | None = None
    form: Name | None = None


class FeedbackEvent(SubjectEvent):
    """A rating, a review, a survey answer. Topic `events.feedback`, key `tenant|user` (`tenant|product` where nobody is named).

    `rating.given` (with `rating`), `review.written`, `survey.answered`; others may come.
    """

    rating: Annotated[float, Field(ge=1, le=5)] | None = None
    survey: Name | None = None
    score: Amount | None = None
    text: Annotated[str, Field(max_length=10_000)] | None = None


class DevelopmentEvent(SubjectEvent):
    """Something about how the product is made. Topic `events.development`, key `tenant|subject`.

    `subject` is `kind:name` (`service:checkout`), or a bare name, which counts as whatever kind a rule waits by.
    `build.passed`, `build.failed`, `deployment.finished`, `deployment.failed`, `pull_request.opened`, `pull_request.merged`,
    `incident.opened`, `incident.resolved`, `release.published`; others may come.
    """

    subject: Name
    environment: Name | None = None
    status: Name | None = None
    severity: Name | None = None
    url: Annotated[str, Field(max_length=2_000)] | None = None


class MarketEvent(SubjectEvent):
    """Something outside. Topic `events.market`, key `tenant|subject`.

    `subject` as in `DevelopmentEvent`. `competitor.launched`, `competitor.priced`, `trend.rose`, `trend.fell`; others may come.
    """

    subject: Name
    competitor: Name | None = None
    trend: Name | None = None
    value: Amount | None = None
    url: Annotated[str, Field(max_length=2_000)] | None = None


OTHERS: Final[Mapping[str, type[SubjectEvent]]] = {
    "events.contacts": ContactEvent,
    "events.commerce": CommerceEvent,
    "events.engagement": EngagementEvent,
    "events.feedback": FeedbackEvent,
    "events.development": DevelopmentEvent,
    "events.market": MarketEvent,
}
"""The topics beside the two hot ones, and what they carry."""
EVENTS: Final[Mapping[str, type[Event]]] = {
    "events.usage": UsageEvent,
    "events.performance": PerformanceEvent,
    **OTHERS,
}
"""Every events topic, and what it carries."""
KEYED: Final[Mapping[str, tuple[str, ...]]] = {
    "events.usage": ("user",),
    "events.performance": ("service", "feature"),
    "events.contacts": ("contact", "account"),
    "events.commerce": ("user",),
    "events.engagement": ("contact",),
    "events.feedback": ("user", "product"),
    "events.development": ("subject",),
    "events.market": ("subject",),
}
"""Fields that make a row's Kafka key behind the tenant: the first that it has."""
EventsTopic = Literal[
    "events.usage",
    "events.performance",
    "events.contacts",
    "events.commerce",
    "events.engagement",
    "events.feedback",
    "events.development",
    "events.market",
]

PRODUCTS_A_MARKER = 500
"""Products that one `begun` may name: below a record's largest size. More of them take several, one after the other."""


class ReplayMarker(OpenWord):
    """A control record that `send` and `simulate` write into every partition of the events topics.

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
