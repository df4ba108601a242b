"""The events beside the two hot ones as typed rows: the msgspec twins of `schemas.events`, read like theirs (`core.meter.hot`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from core.meter.wire import VERSION, Anything, Name, Text, Version, When, Wire, wire_of
from schemas.events import MAX_ITEMS, MAX_TAGS, NEEDS

Amount = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
Tags = Annotated[list[Name], msgspec.Meta(max_length=MAX_TAGS)]
Address = Annotated[str, msgspec.Meta(max_length=2_000)]


class Plain(msgspec.Struct, gc=False):
    """What every event of these topics may have. A required field that is missing keeps its default, which no valid row has."""

    id: Text = ""
    tenant: str = ""
    product: Text = ""
    type: Text = ""
    occurred_at: When = -1
    user: Name | None = None
    contact: Name | None = None
    account: Name | None = None
    feature: Name | None = None
    service: Name | None = None
    properties: Anything | None = None
    schema_version: Version = VERSION


class Contact(Plain, gc=False):
    """`events.contacts`."""

    former: Name | None = None
    tags: Tags | None = None
    list: Name | None = None
    stage: Name | None = None
    status: Name | None = None
    time_zone: Name | None = None
    score: Amount | None = None
    fields: Anything | None = None
    demographics: Anything | None = None
    campaign: Name | None = None
    position: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    variant: Name | None = None


class Commerce(Plain, gc=False):
    """`events.commerce`."""

    amount: Amount | None = None
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] | None = None
    items: Annotated[list[Anything], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    cart: Name | None = None
    order: Name | None = None


class Engagement(Plain, gc=False):
    """`events.engagement`."""

    message: Name | None = None
    campaign: Name | None = None
    channel: Name | None = None
    url: Address | None = None
    form: Name | None = None


class Feedback(Plain, gc=False):
    """`events.feedback`."""

    rating: Annotated[float, msgspec.Meta(ge=1, le=5)] | None = None
    survey: Name | None = None
    score: Amount | None = None
    text: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


class Development(Plain, gc=False):
    """`events.development`."""

    subject: Text = ""
    environment: Name | None = None
    status: Name | None = None
    severity: Name | None = None
    url: Address | None = None


class Market(Plain, gc=False):
    """`events.market`."""

    subject: Text = ""
    competitor: Name | None = None
    trend: Name | None = None
    value: Amount | None = None
    url: Address | None = None


WIRES: Final[Mapping[str, Wire]] = {
    "events.contacts": wire_of(Contact),
    "events.commerce": wire_of(Commerce, "user"),
    "events.engagement": wire_of(Engagement, "contact"),
    "events.feedback": wire_of(Feedback),
    "events.development": wire_of(Development, "subject"),
    "events.market": wire_of(Market, "subject"),
}


def lacks(topic: str, row: Any) -> str | None:
    """What a decoded row's type and topic ask for besides, and it does not have; None where nothing is."""
    for name in NEEDS.get(row.type, ()):
        if getattr(row, name, None) is None:
            return f"{row.type} needs `{name}`"
    if topic == "events.contacts" and row.contact is None and row.account is None:
        return "needs a `contact` or an `account`"
    return None
