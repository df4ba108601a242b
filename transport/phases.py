"""What each partition of a process is doing at this moment, in a file that outlives the process.

The file is mapped into memory, so saying it costs a byte; after a `kill -9` it still tells what the process was in the middle
of. Tests of faults aim with it, and whoever looks at a dead process reads it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

RECORD = 128
"""Bytes of a record: the phase, the label's length, the label."""
RECORDS = 512
_LABEL = RECORD - 2


class Phase(IntEnum):
    """Of one partition of one task group."""

    GONE = 0
    """Released, or never owned."""
    STARTING = 1
    FENCING = 2
    """`init_transactions`: the owner before is shut out, what it left open is ended."""
    LOADING = 3
    """The state is read back."""
    SEEKING = 4
    """Positions are held against the log's bounds."""
    WORKING = 5
    """Batches; no checkpoint is on its way."""
    FILLING = 6
    """A transaction is open: state and outputs are being written."""
    OFFSETS = 7
    """The group's offsets are being added to it."""
    COMMITTING = 8
    """The commit is on its way."""
    PAUSING = 9
    """Between two lives, after a failure."""

    @property
    def recovering(self) -> bool:
        """Between assignment and the first batch."""
        return Phase.STARTING < self <= Phase.SEEKING

    @property
    def in_transaction(self) -> bool:
        """A transaction is open."""
        return Phase.FILLING <= self <= Phase.COMMITTING


class Mark:
    """Where one partition says what it does."""

    def __init__(self, memory: mmap.mmap | bytearray, at: int) -> None:
        self._memory = memory
        self._at = at

    def set(self, phase: Phase) -> None:
        """Say it."""
        self._memory[self._at] = phase


class Phases:
    """The marks of one process. Without a path they are kept in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._memory = _create(path) if path is not None else bytearray(RECORD * RECORDS)
        self._places: dict[str, int] = {}

    def of(self, label: str) -> Mark:
        """The mark of a partition; one that comes back gets its old place. Beyond `RECORDS` labels nothing is noted."""
        place = self._places.setdefault(label, len(self._places))
        if place >= RECORDS:
            return Mark(bytearray(1), 0)
        text = label.encode()[:_LABEL]
        start = place * RECORD
        self._memory[start + 1] = len(text)
        self._memory[start + 2 : start + 2 + len(text)] = text
        return Mark(self._memory, start)


class PhaseReader:
    """Reads the file of another process, also after that process or the file is gone. Raises `OSError` where there is none."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), RECORD * RECORDS, access=mmap.ACCESS_READ)

    def now(self) -> dict[str, Phase]:
        """The phase of every partition that the process has or had."""
        return dict(self._labels())

    def _labels(self) -> Iterator[tuple[str, Phase]]:
        for start in range(0, RECORD * RECORDS, RECORD):
            phase, size = self._memory[start], self._memory[start + 1]
            if not size:
                return
            yield self._memory[start + 2 : start + 2 + size].decode(errors="replace"), Phase(phase)


def _create(path: Path) -> mmap.mmap:
    """A file of its own for each process: who still reads the one before sees how that one ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with fresh.open("w+b") as file:
        file.truncate(RECORD * RECORDS)
        memory = mmap.mmap(file.fileno(), RECORD * RECORDS)
    fresh.rename(path)
    return memory
