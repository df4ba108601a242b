"""The events beside the two hot ones as typed rows: the msgspec twins of `schemas.events`, read like theirs (`core.meter.wire`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from core.meter.wire import VERSION, Anything, Name, Text, Version, When, Wire, Zoned
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


def _wire(plain: type[Plain], *required: str) -> Wire:
    """How a topic is read: its row is the plain event with the attributes of the structured CloudEvent that may be around it."""
    about = [("specversion", str | None, None), ("source", str, ""), ("time", Zoned | None, None)]
    data = msgspec.defstruct(f"{plain.__name__}Data", about, bases=(plain,), gc=False)
    row = msgspec.defstruct(f"{plain.__name__}Row", [*about, ("data", data | None, None)], bases=(plain,), gc=False)
    required = ("id", "tenant", "product", "type", "occurred_at", *required)
    return Wire(msgspec.json.Decoder(row).decode, msgspec.json.Decoder(plain).decode, row, required)


WIRES: Final[Mapping[str, Wire]] = {
    "events.contacts": _wire(Contact),
    "events.commerce": _wire(Commerce, "user"),
    "events.engagement": _wire(Engagement, "contact"),
    "events.feedback": _wire(Feedback),
    "events.development": _wire(Development, "subject"),
    "events.market": _wire(Market, "subject"),
}


def problem(topic: str, row: Any) -> str | None:
    """What is wrong with a decoded row's own fields; None where nothing is."""
    for name in WIRES[topic].required:
        if name != "tenant" and getattr(row, name) in ("", -1, None):
            return f"`{name}` is missing or empty"
    for name in NEEDS.get(row.type, ()):
        if getattr(row, name, None) is None:
            return f"{row.type} needs `{name}`"
    if topic == "events.contacts" and row.contact is None and row.account is None:
        return "needs a `contact` or an `account`"
    return None
