"""The gateway's spool: events that Kafka does not take just now, on the disk, in order, until it does.

An event is in it once, by its identity. It is bounded: what does not fit is refused, so that the caller knows. A row leaves it
only when Kafka has acknowledged it, so a kill in between sends it again, under the same id, which counts once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from app.telemetry import Telemetry

log = logging.getLogger(__name__)
AT_ONCE: Final = 500
_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, record BLOB NOT NULL
)
"""


class SpoolFull(Exception):
    """No room for these events: nothing of them was kept."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written."""

    topic: str
    """Without the settings' prefix."""
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()
    identity: str = field(default="", compare=False)
    """What makes an event the same event; empty for what is none."""


class Spool:
    """One gateway a file: a second one would write out the same rows, which count once, but not in order."""

    def __init__(self, path: Path, most_bytes: int, telemetry: Telemetry) -> None:
        """Raises `sqlite3.Error` where the file cannot be opened."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.most_bytes = most_bytes
        self._telemetry = telemetry
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=2)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=FULL")  # what is answered with 202 is on the disk
        self._file.execute(_SCHEMA)
        self._lock = threading.Lock()
        self._news = asyncio.Event()
        self.events: int
        """That wait."""
        self.bytes: int
        self.events, self.bytes = self._file.execute("SELECT count(*), coalesce(sum(size), 0) FROM events").fetchone()
        self._told()

    @property
    def full(self) -> bool:
        """Whether there is hardly room for more."""
        return self.bytes >= 0.95 * self.most_bytes

    async def put(self, records: Sequence[Outgoing]) -> None:
        """Keep all of these, on the disk, or none. Raises `SpoolFull`."""
        await asyncio.to_thread(self._put, records)
        self._told(len(records), "kept")
        self._news.set()

    async def drain(self, write: Callable[[Sequence[Outgoing]], Awaitable[None]]) -> None:
        """Write out what is there, oldest first, for ever. `write` raises while Kafka does not answer."""
        tries = 0
        while True:
            if not self.events:
                self._news.clear()
                await self._news.wait()
            last, records = await asyncio.to_thread(self._first)
            try:
                await write(records)
            except Exception as error:
                log.warning("%d events wait in the spool: %s", self.events, error)
                await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
                tries += 1
                continue
            tries = 0
            await asyncio.to_thread(self._drop, last)
            self._told(len(records), "sent")

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        with self._lock:
            self._file.close()

    def _put(self, records: Sequence[Outgoing]) -> None:
        rows = [(r.identity, _size(r), _encoded(r)) for r in records]
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany("INSERT OR IGNORE INTO events (identity, size, record) VALUES (?, ?, ?)", rows)
                events, size = self._file.execute("SELECT count(*), coalesce(sum(size), 0) FROM events").fetchone()
                if size > self.most_bytes:
                    raise SpoolFull(f"{self.events} events wait for Kafka already, and there is no room for more")
                self._file.execute("COMMIT")
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self.events, self.bytes = events, size

    def _first(self) -> tuple[int, list[Outgoing]]:
        with self._lock:
            rows = self._file.execute("SELECT seq, record FROM events ORDER BY seq LIMIT ?", (AT_ONCE,)).fetchall()
        return (rows[-1][0] if rows else 0), [_decoded(record) for _, record in rows]

    def _drop(self, last: int) -> None:
        with self._lock:
            self._file.execute("DELETE FROM events WHERE seq <= ?", (last,))
            query = "SELECT count(*), coalesce(sum(size), 0) FROM events"
            self.events, self.bytes = self._file.execute(query).fetchone()

    def _told(self, n: int = 0, outcome: str = "kept") -> None:
        self._telemetry.count("uptake_spooled_total", n, (outcome,))
        self._telemetry.observe("uptake_spool_events", self.events)
        self._telemetry.observe("uptake_spool_full_ratio", self.bytes / self.most_bytes)


def waiting(path: Path) -> int | None:
    """Events in a spool file, from outside; None where there is none that can be read."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.1)) as file:
            return int(file.execute("SELECT count(*) FROM events").fetchone()[0])
    except sqlite3.Error:
        return None


def _size(record: Outgoing) -> int:
    return len(record.key) + len(record.value) + sum(len(n) + len(v) for n, v in record.headers) + 200


def _encoded(record: Outgoing) -> bytes:
    return msgspec.msgpack.encode((record.topic, record.key, record.value, list(record.headers), record.identity))


def _decoded(raw: bytes) -> Outgoing:
    kept = msgspec.msgpack.decode(raw, type=tuple[str, bytes, bytes, list[tuple[str, bytes]], str])
    return Outgoing(*kept)
