"""One partition of the in-memory log, in Kafka's own bytes: stored batches with holes, markers, aborted rows, compaction."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from transport.framing import HEADER

TRANSACTIONAL, CONTROL = 0x10, 0x20
UNKNOWN_CODEC = 0x07
AFTER_CRC = 21
Headers = Sequence[tuple[str, bytes]]


class Row(NamedTuple):
    """One record as it stands in the log."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class OutOfRange(Exception):
    """The log does not hold the offset."""


@dataclass(slots=True)
class Open:
    """A transaction's part in this partition, until its marker."""

    first: int
    batches: list[Stored] = field(default_factory=list)


@dataclass(slots=True)
class Stored:
    """A stored batch."""

    base: int
    last: int
    rows: list[Row]
    attributes: int
    pid: int
    at: int
    epoch: int = -1
    aborted: bool = False
    bytes: bytes = b""

    def encode(self) -> None:
        """Make the bytes from the rows."""
        builder = DefaultRecordBatchBuilder(
            2, 0, bool(self.attributes & TRANSACTIONAL), self.pid, self.epoch, 0, 1 << 20
        )
        for row in self.rows:
            builder.append(row.offset - self.base, self.at, row.key, row.value, list(row.headers))
        data = bytearray(builder.build())
        fields = list(HEADER.unpack_from(data))
        fields[0], fields[5], fields[6] = self.base, self.attributes, self.last - self.base
        fields[7] = fields[8] = self.at
        HEADER.pack_into(data, 0, *fields)
        struct.pack_into(">I", data, AFTER_CRC - 4, calc_crc32c(bytes(data[AFTER_CRC:])))
        self.bytes = bytes(data)

    @property
    def control(self) -> bool:
        """A transaction's marker."""
        return bool(self.attributes & CONTROL)


class Fetched(NamedTuple):
    """What a broker answers to a fetch."""

    raw: bytes
    aborted: list[tuple[int, int]]
    high_watermark: int
    stable: int
    """The last stable offset."""


class Partition:
    """Appends and fetches. Offsets are never given twice."""

    def __init__(self) -> None:
        self.batches: list[Stored] = []
        self.end = 0
        self.open: dict[int, Open] = {}
        """By producer id."""
        self.waiting: list[Any] = []
        """Futures of fetches that wait for rows."""
        self._skipped = 0
        self._aborted: list[tuple[int, int, int]] = []
        self._seen: dict[tuple[int, int, int], int] = {}

    @property
    def stable(self) -> int:
        """The last stable offset."""
        return min((part.first for part in self.open.values()), default=self.end)

    def append(
        self,
        rows: Sequence[tuple[bytes | None, bytes | None, Headers]],
        at: int,
        *,
        pid: int = -1,
        epoch: int = -1,
        sequence: int = -1,
        gaps: Sequence[int] = (),
        spoiled: bool = False,
    ) -> int:
        """Store one batch; gives its base offset. `gaps`: offsets left out after row n. The same sequence again: the same place."""
        place = (pid, epoch, sequence)
        if pid >= 0 and place in self._seen:
            return self._seen[place]
        self._leave_out()
        offset = base = self.end
        stored: list[Row] = []
        for number, (key, value, headers) in enumerate(rows):
            stored.append(Row(offset, key, value, headers))
            offset += 1 + (gaps[number] if number < len(gaps) else 0)
        attributes = (TRANSACTIONAL if pid >= 0 else 0) | (UNKNOWN_CODEC if spoiled else 0)
        batch = Stored(base, offset - 1, stored, attributes, pid, at, epoch)
        batch.encode()
        self._store(batch)
        if pid >= 0:
            self._seen[place] = base
            self.open.setdefault(pid, Open(base)).batches.append(batch)
        return base

    def mark(self, pid: int, epoch: int, at: int, *, commit: bool) -> None:
        """A transaction's end: its marker."""
        self._leave_out()
        part = self.open.pop(pid, None)
        key = struct.pack(">hh", 0, 1 if commit else 0)
        marker = Stored(
            self.end,
            self.end,
            [Row(self.end, key, struct.pack(">hi", 0, 0))],
            TRANSACTIONAL | CONTROL,
            pid,
            at,
            epoch,
        )
        marker.encode()
        if part is not None and not commit:
            self._aborted.append((pid, part.first, self.end))
            for batch in part.batches:
                batch.aborted = True
        self._store(marker)

    def skip(self, count: int) -> None:
        """Offsets before the next batch of which nothing is left (a compacted batch)."""
        self._skipped += count

    def _leave_out(self) -> None:
        self.end += self._skipped
        self._skipped = 0

    def _store(self, batch: Stored) -> None:
        self.batches.append(batch)
        self.end = batch.last + 1
        self.wake()

    def wake(self) -> None:
        """Tell the fetches that wait."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def fetch(self, offset: int, most: int, cut: bool) -> Fetched:
        """Up to `most` stored batches from the one with `offset` on, none of an open transaction; `cut`: and a piece of one."""
        if offset < 0 or offset > self.end:
            raise OutOfRange(offset)
        stable = self.stable
        if offset >= stable:
            return Fetched(b"", [], self.end, stable)
        found = [batch for batch in self.batches if batch.last >= offset and batch.base < stable]
        raw = b"".join(batch.bytes for batch in found[:most])
        upper = found[min(most, len(found)) - 1].last if found else offset
        if cut and len(found) > most:
            raw += found[most].bytes[:-7]
        aborted = [(pid, first) for pid, first, marker in self._aborted if marker >= offset and first <= upper]
        return Fetched(raw, aborted, self.end, stable)

    def committed(self) -> list[Row]:
        """What `read_committed` means, by the log's own book."""
        stable = self.stable
        return [
            row
            for batch in self.batches
            if batch.base < stable and not batch.aborted and not batch.control and not batch.attributes & UNKNOWN_CODEC
            for row in batch.rows
        ]

    def times(self) -> dict[int, int]:
        """Broker time by offset."""
        return {row.offset: batch.at for batch in self.batches for row in batch.rows}

    def compact(self, tombstones: bool) -> None:
        """Keep each key's newest row, below the last stable offset; batches of which nothing is left go, or stay empty."""
        stable = self.stable
        newest = {row.key: row.offset for row in self.committed()}
        kept: list[Stored] = []
        for batch in self.batches:
            if batch.base >= stable or batch is self.batches[-1]:
                kept.append(batch)
                continue
            if batch.control:
                # A marker goes once no row of its transaction is left: here, with every other compaction.
                if not tombstones or self._owes(batch):
                    kept.append(batch)
                continue
            rows = [
                row
                for row in batch.rows
                if not batch.aborted and newest[row.key] == row.offset and (row.value is not None or not tombstones)
            ]
            if rows:
                if len(rows) != len(batch.rows):
                    batch.rows = rows
                    batch.encode()
                kept.append(batch)
        self.batches = kept
        # The index of aborted transactions goes with their markers, or a later transaction of the same id would be taken for one.
        markers = {batch.base for batch in kept if batch.control}
        self._aborted = [part for part in self._aborted if part[2] in markers]

    def _owes(self, marker: Stored) -> bool:
        return any(
            batch.pid == marker.pid and batch.base < marker.base and not batch.control and batch.rows
            for batch in self.batches
        )
