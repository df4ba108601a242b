"""Parts: what DECIDE's partitions tell about outcomes to the one that adds them up. Internal (msgspec, JSON on `outcome.parts`).

Key `tenant|product`, so one partition hears everything about a product.
"""

from __future__ import annotations

import msgspec


class Counted(msgspec.Struct, frozen=True, array_like=True):
    """Exposures of one rule in one source partition whose time ended in the hour before `end`: differences, not totals."""

    end: int
    rule: str
    """Name of the rule."""
    signature: str
    """Of what is measured: exposures under another one are another experiment."""
    version: int
    treated: list[float]
    """subjects, converted, sum of values, sum of their squares."""
    held: list[float]
    forecast: list[float]
    """Of held ones whose trigger carried a probability: how many, sum of it, conversions, sum of squared errors."""


class Arms(msgspec.Struct, frozen=True, kw_only=True, tag="arms"):
    """Partition `partition` of `signals` has counted every exposure of the product that ended before `upto`."""

    tenant: str
    product: str
    partition: int
    upto: int
    counted: list[Counted]


class Pair(msgspec.Struct, frozen=True, kw_only=True, tag="pair"):
    """A figure before and after a command of a product rule."""

    tenant: str
    product: str
    end: int
    rule: str
    signature: str
    version: int
    subject: str
    before: float
    after: float


class Day(msgspec.Struct, frozen=True, kw_only=True, tag="day"):
    """Figures of a product at the end of a day (UTC)."""

    tenant: str
    product: str
    end: int
    act: bool
    broker_time: int
    figures: dict[str, float]


class Took(msgspec.Struct, frozen=True, kw_only=True, tag="took"):
    """A command was delivered, so long after the event time at which it was decided."""

    tenant: str
    product: str
    rule: str
    at: int
    ms: int


Part = Arms | Pair | Day | Took
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Part)


def encode_part(part: Part) -> bytes:
    """JSON of one part."""
    return _encoder.encode(part)


def decode_part(value: bytes) -> Part:
    """The part; raises `msgspec.MsgspecError` where it is none."""
    found: Part = _decoder.decode(value)
    return found
