"""Registers: what METER tells DECIDE, in columns. Internal, so msgspec (MessagePack) instead of pydantic.

A record of `meter.registers` is one `Registers` (key `tenant|product`) or one `Clock` (no key, sent to every partition).
"""

from __future__ import annotations

import msgspec

HOT = ("events.usage", "events.performance")
"""Sources whose rows are added up."""
OTHERS = "events.others"
"""The source that all the other events topics are together: clocks come of it, signals, and the ratings of `events.feedback`."""
SOURCES = (*HOT, OTHERS)
WINDOWS: dict[str, tuple[int, int]] = {
    "5m": (300_000, 10_000),
    "1h": (3_600_000, 60_000),
    "1d": (86_400_000, 3_600_000),
    "7d": (7 * 86_400_000, 86_400_000),
    "28d": (28 * 86_400_000, 86_400_000),
}
"""Name → (length, step) in milliseconds. Windows are half open, [end - length, end), and end on multiples of the step."""

TOLD_MS = 5_000
"""Steps of the event time that `signals` are told of a product. A row from before one that its partition had passed is late."""
RATING_COLUMNS = ("ratings", "rating_sum")
"""Of `events.others`: how many, and their sum in ten-thousandths of a star."""
ALL = "*"
"""The feature name under which a product's own figures travel: its active users, all its events."""

ZERO_BUCKET = -2
"""The sketch's bucket of latencies below one microsecond; the others begin at -1."""


def bucket_cell(name: str, bucket: int) -> str:
    """The cell under which a bucket of a name's latency sketch travels.

    No name begins with `#` (they are `*`, `service:x`, `feature:x`), and what follows the number is the whole name: a
    service whose own name holds a `#` is mistaken for nothing.

    >>> bucket_cell("service:api", 159), bucket_cell("*", ZERO_BUCKET)
    ('#159:service:api', '#zero:*')
    """
    return f"#{'zero' if bucket == ZERO_BUCKET else bucket}:{name}"


def bucket_of(cell: str) -> tuple[str, int] | None:
    """(name, bucket) of a cell that is a sketch's bucket; None for any other cell.

    >>> bucket_of("#159:service:a#7"), bucket_of("service:a#7")
    (('service:a#7', 159), None)
    """
    if not cell.startswith("#"):
        return None
    number, _, name = cell[1:].partition(":")
    return name, ZERO_BUCKET if number == "zero" else int(number)


class Patch(msgspec.Struct, frozen=True, array_like=True):
    """The cells of one window end that differ from the end before it (version 0), or from the version before.

    `cells` index the record's `names`; every other cell stays as it was at the newest end before this one.
    Columns are little-endian int64 bytes, one value a cell; `columns` of the record names them in order.
    """

    window: str
    end: int
    version: int
    cells: bytes
    columns: list[bytes]


class Registers(msgspec.Struct, frozen=True, tag="r", kw_only=True):
    """Changed figures of one source partition for one product, in the order in which its windows closed."""

    source: str
    """Topic without prefix, e.g. `events.usage`; or `events.others`, whose patches are ratings."""
    partition: int
    tenant: str
    product: str
    names: list[str]
    """Features (usage) or `service:x` / `feature:x` (performance) that this record speaks of, and `bucket_cell`s of these."""
    columns: list[str]
    """usage: users, events, organic. performance: requests, errors, satisfied, tolerating, latency_sum_us. others:
    `RATING_COLUMNS`."""
    patches: list[Patch]
    clock: int
    """This partition's watermark for this product after the patches."""
    act: bool
    """False where replayed data older than a day must not act."""
    replay: bool = False
    """Whether the product began here with a replay's `begun`: every source then tells its beginning, also without rows."""


class Clock(msgspec.Struct, frozen=True, tag="c", kw_only=True, gc=False):
    """`source`/`partition` has no unread row that occurred before `at` (for any product), as far as its owner knows."""

    source: str
    partition: int
    at: int
    replaying: bool


RegisterRecord = Registers | Clock
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RegisterRecord)


def encode(record: RegisterRecord) -> bytes:
    """MessagePack of one record."""
    return _encoder.encode(record)


def decode(value: bytes) -> RegisterRecord:
    """The record; raises `msgspec.ValidationError` or `msgspec.DecodeError` where it is none."""
    record: RegisterRecord = _decoder.decode(value)
    return record


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One matched row, for each subject a definition waits by (JSON on `signals`, key `tenant|kind:subject`)."""

    tenant: str
    product: str
    subject: str
    kind: str
    """`event` (a matched row), `trigger` (a person's or the API's request), `approval`, `cancel`, `pause`, `resume` and `move` (a
    person's word to a run), `publish` (a version of a workflow that runs are to move to; to every partition, without a key),
    `merge` (what was known of the subject's former name), `handover` and `forward` (what runs of its former name were, and what is
    still told to that name; between partitions of ORCHESTRATE), `segment` (it entered or left a live segment),
    `prediction` (a user's probability crossed or cleared a limit; `data` is the detection),
    `clock` (the product's event time is at `at`: no row before it will come; sent to every partition, without a key)."""
    cause: str
    """The event's identity, or the caller's idempotency key: what derived ids are made of."""
    rules: list[str]
    """Names of the rules whose predicate matched, or that are asked for."""
    at: int
    """Event time, milliseconds."""
    data: dict[str, object]
    """The row's fields."""
    traceparent: str | None = None
    act: bool = True
    """False where replayed data older than a day must not act (as in `Registers`)."""
    workflows: list[str] = []
    """Names of the workflows that wait for the row."""
    topic: str | None = None
    """Where the row came from; given where workflows wait for it, and by every topic beside usage and performance."""
    late: int = 0
    """How far its product was in its partition when the row came, in whole `TOLD_MS`, where that is later than the row; else 0."""
