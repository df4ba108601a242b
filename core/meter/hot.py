"""The two hot topics' events as typed rows: the msgspec twins of `schemas.events.UsageEvent` and `PerformanceEvent`.

A required field that is missing keeps its default, which no valid row has. Fields stand in the usual order on the wire: decoding
looks for the next one first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from core.meter.wire import VERSION, Anything, Name, Text, Version, When, Wire, wire_of

TOO_SLOW_MS: Final = 1e9
"""The longest latency that a row may have."""


class Usage(msgspec.Struct, gc=False):
    """`events.usage`."""

    id: Text = ""
    tenant: str = ""
    product: Text = ""
    type: Text = ""
    feature: Name | None = None
    user: Text = ""
    account: Name | None = None
    occurred_at: When = -1
    properties: Anything | None = None
    schema_version: Version = VERSION
    attribution: str | None = None


class Performance(msgspec.Struct, gc=False):
    """`events.performance`."""

    id: Text = ""
    tenant: str = ""
    product: Text = ""
    type: Text = ""
    service: Name | None = None
    feature: Name | None = None
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=TOO_SLOW_MS)] = -1.0
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    error: bool | str | None = None
    user: Name | None = None
    occurred_at: When = -1
    properties: Anything | None = None
    schema_version: Version = VERSION


USAGE: Final = wire_of(Usage, "user")
PERFORMANCE: Final = wire_of(Performance, "latency_ms")
WIRES: Final[Mapping[str, Wire]] = {"events.usage": USAGE, "events.performance": PERFORMANCE}
