"""One try of a delivery: what is handed out, what its end says of the destination, and how waiting rows are read."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core.delivery.breaker import Verdict
from core.delivery.rows import Row
from schemas.definitions import Connection
from schemas.delivery import Delivery, Outcome, Retry


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, handed out by `due`; `finished` takes it back."""

    delivery: Delivery
    connection: Connection | None
    """None: it was retired; there is nobody to send to."""
    lane: str
    number: int
    """From 1."""
    sandboxed: bool
    """Goes to the built-in sink: the delivery was made so, or the connection is not enabled (any more)."""
    origin: str


class _Subject(msgspec.Struct):
    """As much of a delivery's command as says whom it is about."""

    subject: str


class _Delivery(msgspec.Struct):
    """As much of a delivery as is needed here: all that wait are looked through."""

    command: _Subject


_read_subject = msgspec.json.Decoder(_Delivery).decode


def subject_of(row: Row) -> str | None:
    """Whom the delivery is about; None for one that cannot be read, which its own sweep sets aside."""
    try:
        return _read_subject(row.value).command.subject
    except ValueError:
        return None


def read(row: Row) -> Delivery | None:
    """A row may have been kept by another version of the program; one that cannot be read must not stop the others."""
    try:
        return Delivery.model_validate_json(row.value)
    except ValueError:
        return None


def verdict_of(attempt: Attempt, outcome: Outcome) -> Verdict:
    """What an attempt says about its destination. One that asks for patience works, and is left alone by its lane; the
    built-in sink, where sandboxed attempts go, always works.
    """
    if attempt.connection is None:
        return "neither"
    if isinstance(outcome, Retry):
        return "failed" if outcome.after_s is None else "neither"
    return "well"


def attempt_of(row: Row, delivery: Delivery, connection: Connection | None) -> Attempt:
    """The next try of a waiting row."""
    sandboxed = delivery.sandboxed or (connection is not None and not connection.enabled)
    return Attempt(delivery, connection, row.lane, row.attempts + 1, sandboxed, row.origin)
