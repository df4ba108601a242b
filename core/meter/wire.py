"""Rows on the wire: how one events topic is read, and what a record comes to, which is a row, a marker or a dead letter.

A topic says its plain event as a msgspec struct (`core.meter.hot`, `core.meter.words`: the twins of `schemas.events`); `wire_of` makes
the form around it that also takes the attributes of a structured CloudEvent, so that one typed C decode reads either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from core.batch import Int64s

LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""

Text = Annotated[str, msgspec.Meta(max_length=256)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
When = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)] | Annotated[datetime, msgspec.Meta(tz=True)]
Zoned = Annotated[datetime, msgspec.Meta(tz=True)]
Version = Literal["1", 1]
"""Today's version of an event, as it may be written; any other fails to decode and takes the slow way."""
VERSION: Final = "1"
"""Of a row that says none."""


class Anything(msgspec.Struct, gc=False, frozen=True):
    """A JSON object whose content METER does not look at."""


class Bad(NamedTuple):
    """Why a row is a dead letter."""

    reason: str
    detail: str


class Marker(NamedTuple):
    """A control record of `send` or `simulate`."""

    type: str
    replay: str
    at: int
    act: bool
    products: list[tuple[str, str]]
    """Of `begun`: (tenant, product) of the rows to come."""


@dataclass(slots=True)
class Decoded:
    """Rows of a batch; those in `bad` and `markers` stand as blanks."""

    rows: list[Any]
    times: Int64s
    """Milliseconds; -1 where the row is a blank."""
    bad: dict[int, Bad] = field(default_factory=dict)
    markers: dict[int, Marker] = field(default_factory=dict)
    events: list[int] = field(default_factory=list)
    """Rows that came as CloudEvents: their `source` is part of their identity."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How one topic is read."""

    decode: Callable[[bytes], Any]
    plain: Callable[[bytes], Any]
    row: type[Any]
    required: tuple[str, ...]


def wire_of(plain: type[msgspec.Struct], *required: str) -> Wire:
    """How the topic of these plain events is read. `required`: fields that a row must have beside those that every event has."""
    about = [("specversion", str | None, None), ("source", str, ""), ("time", Zoned | None, None)]
    data = msgspec.defstruct(f"{plain.__name__}Data", about, bases=(plain,), gc=False)
    row = msgspec.defstruct(f"{plain.__name__}Row", [*about, ("data", data | None, None)], bases=(plain,), gc=False)
    required = ("id", "tenant", "product", "type", "occurred_at", *required)
    return Wire(msgspec.json.Decoder(row).decode, msgspec.json.Decoder(plain).decode, row, required)


def missing(row: Any, wire: Wire) -> Bad | None:
    """The dead letter of a row that lacks a required field; None where none is lacking. Of the tenant others judge (`checks`)."""
    for name in wire.required:
        if name != "tenant" and getattr(row, name) in ("", -1, None):
            return Bad("invalid", f"`{name}` is missing or empty")
    return None
