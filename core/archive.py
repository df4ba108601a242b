"""The archive: which rows of the log are kept for good, what their files are called, and in which order they are read.

A file holds rows of one partition of one topic and is named by the first and the last offset in it, so writing it again replaces
it. Files may overlap (an owner that was thought dead writes on): a reader goes by offsets and takes each row once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from core.batch import Batch, Headers
from schemas.commands import DOMAINS
from schemas.registers import TOLD_MS, Clock
from schemas.registers import decode as decode_register
from schemas.topics import TOPICS as ALL_TOPICS

REGISTERS: Final = "meter.registers"
SIGNALS: Final = "signals"
EVENTS: Final = tuple(t.name for t in ALL_TOPICS if t.name.startswith("events."))
COMMANDS: Final = tuple(f"commands.{domain}" for domain in DOMAINS)
TOPICS: Final = (*EVENTS, REGISTERS, SIGNALS, "receipts", *COMMANDS)
"""What the role reads; `definitions`, with its one partition, is copied beside it."""
STEP_MS: Final = TOLD_MS
"""A clock counts where it passes a multiple of this: in between no window ends, and no row becomes late for what remembers."""
REPLAYED_STEP_MS: Final = 600_000
"""While a replay lasts, clocks follow from the rows, and only say how far it was when."""
_KINDS: Final = ("event", "clock", "merge", "segment", "prediction", "handover", "forward")
_MADE: Final = tuple(f'"kind":"{kind}"'.encode() for kind in _KINDS)
"""Signals that METER, DECIDE and ORCHESTRATE made: a backtest makes its own."""
_NAME: Final = re.compile(r"^(?P<topic>.+)-(?P<partition>\d{5})-(?P<first>\d{20})-(?P<last>\d{20})\.parquet$")


@dataclass(slots=True)
class Chunk:
    """Rows of one topic's partition that become one file, in offset order."""

    topic: str
    partition: int
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    size: int = 0
    """Bytes of keys and values."""

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Append a row."""
        self.offsets.append(offset)
        self.timestamps.append(timestamp)
        self.keys.append(key)
        self.values.append(value)
        self.headers.append(headers)
        self.size += len(key or b"") + len(value or b"") + 100

    @property
    def name(self) -> str:
        """Of its file."""
        return file_name(self.topic, self.partition, self.offsets[0], self.offsets[-1])


@dataclass(frozen=True, order=True, slots=True)
class File:
    """What a file's name says."""

    topic: str
    partition: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """Below the archive's place."""
        return file_name(self.topic, self.partition, self.first, self.last)


def file_name(topic: str, partition: int, first: int, last: int) -> str:
    """Below the archive's place.

    >>> file_name("receipts", 3, 0, 99)
    'receipts/receipts-00003-00000000000000000000-00000000000000000099.parquet'
    """
    return f"{topic}/{topic}-{partition:05}-{first:020}-{last:020}.parquet"


def read_name(path: str) -> File | None:
    """The file of a path; None for what is none of the archive's.

    >>> read_name(file_name("receipts", 3, 0, 99))
    File(topic='receipts', partition=3, first=0, last=99)
    """
    found = _NAME.match(path.rsplit("/", 1)[-1])
    if found is None:
        return None
    return File(found["topic"], int(found["partition"]), int(found["first"]), int(found["last"]))


class Keeper:
    """Says which rows of a partition are kept: all but what a backtest makes again by itself."""

    def __init__(self) -> None:
        self._passed: dict[tuple[str, int], int] = {}
        """By source, the step its clock was kept at last."""

    def keep(self, batch: Batch, row: int) -> bool:
        """Whether the row belongs into the archive."""
        value = batch.values[row]
        if batch.topic == REGISTERS:
            return batch.partition == 0 and self._clock(value)
        if batch.topic == SIGNALS:
            return value is not None and not any(mark in value for mark in _MADE)
        return True

    def _clock(self, value: bytes | None) -> bool:
        """Every clock is told to every partition, so that partition 0 has them all."""
        try:
            clock = decode_register(value or b"")
        except msgspec.MsgspecError:
            return False
        if not isinstance(clock, Clock):
            return False
        step = REPLAYED_STEP_MS if clock.replaying else STEP_MS
        source, passed = (clock.source, clock.partition), clock.at // step * step
        if passed <= self._passed.get(source, -1):
            return False
        self._passed[source] = passed
        return True
